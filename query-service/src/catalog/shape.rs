//! Which queries an index serves.

use super::{Column, ColumnId, Constant, Function, Index, IndexColumn, Kind, Unservable};

/// One way in which an index serves a query: equality on all of `equal`, then a range on the first column
/// of `order`, in the order of `order`, forwards or backwards. `order` ends in the key, so that it is total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub equal: Vec<ColumnId>,
    /// Equality on what these functions make of columns.
    pub functions: Vec<(Function, ColumnId)>,
    pub order: Vec<ColumnId>,
    /// The index is partial: equality on these columns must be with these values.
    pub only: Vec<Constant>,
    /// The first column of `order` may be null. Nulls compare with nothing, so a cursor could not name a
    /// place among them; a range or a prefix keeps them out, and so must be given.
    pub bounded: bool,
    /// The first column of `order` may be asked by a prefix.
    pub prefix: bool,
    /// The columns that can be read from the index itself.
    pub covers: Vec<ColumnId>,
    /// The columns of the index up to the key: those of `equal` and `functions`, then those of `order`.
    pub path: Vec<IndexColumn>,
}

/// What a query asks of an index.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// With the value, if it is one alone.
    pub equal: Vec<(ColumnId, Option<&'a str>)>,
    pub functions: Vec<(Function, ColumnId)>,
    pub range: Option<ColumnId>,
    /// The range is that of a prefix.
    pub by_prefix: bool,
    /// Empty: any order will do.
    pub sort: &'a [ColumnId],
}

impl Shape {
    pub fn has(&self, column: ColumnId) -> bool {
        let plain = self.equal.iter().chain(&self.order);
        plain.chain(self.functions.iter().map(|(_, column)| column)).any(|&other| other == column)
    }

    pub fn serves(&self, asked: &Asked<'_>) -> bool {
        let has_equality = |column| asked.equal.iter().any(|&(other, _)| other == column);
        let has_value =
            |constant: &Constant| asked.equal.contains(&(constant.column, Some(constant.value.as_str())));
        self.equal.len() == asked.equal.len()
            && self.equal.iter().all(|&column| has_equality(column))
            && self.functions.len() == asked.functions.len()
            && self.functions.iter().all(|function| asked.functions.contains(function))
            && self.only.iter().all(has_value)
            && asked.range.is_none_or(|column| self.order[0] == column)
            && (asked.range.is_some() || !self.bounded)
            && (self.prefix || !asked.by_prefix)
            && self.order.starts_with(asked.sort)
    }

    /// How the index holds the columns of `order`.
    pub fn order_path(&self) -> &[IndexColumn] {
        &self.path[self.path.len() - self.order.len()..]
    }

    /// Whether texts are compared as their columns are everywhere else.
    fn is_natural(&self) -> bool {
        !self.path.iter().any(|part| part.collate_c)
    }

    /// Whether every query that `other` serves is served by this one.
    fn replaces(&self, other: &Self) -> bool {
        self.equal == other.equal
            && self.functions == other.functions
            && self.order == other.order
            && self.only == other.only
            && self.is_natural() == other.is_natural()
            && (self.prefix || !other.prefix)
            && (!self.bounded || other.bounded)
            && other.covers.iter().all(|column| self.covers.contains(column))
    }
}

/// The key of a view, and all that its indexes serve: the key's own shape first, then what asks for fewer
/// equalities first.
pub fn shapes(
    columns: &[Column],
    key_name: &str,
    indexes: &[Index],
) -> Result<(ColumnId, Vec<Shape>), Unservable> {
    let key = columns
        .iter()
        .position(|column| column.name == key_name)
        .ok_or_else(|| Unservable::NoKeyColumn(key_name.to_owned()))?;
    let is_of_key = |index: &&Index| {
        index.unique
            && index.only == Default::default()
            && matches!(&index.columns[..], [one] if one.column == key)
    };
    let by_key = indexes.iter().find(is_of_key).and_then(|index| shapes_of(index, columns, key).pop());
    let Some(by_key) = by_key.filter(|shape| !shape.bounded) else {
        return Err(Unservable::KeyNotIndexed(key_name.to_owned()));
    };
    let mut others: Vec<Shape> = indexes.iter().flat_map(|index| shapes_of(index, columns, key)).collect();
    others.sort_by_key(|shape| {
        let equalities = shape.equal.len() + shape.functions.len();
        (
            equalities,
            shape.order.len(),
            shape.only.is_empty(),
            !shape.is_natural(),
            usize::MAX - shape.covers.len(),
        )
    });
    let mut shapes = vec![by_key];
    for shape in others {
        if !shapes.iter().any(|known| known.replaces(&shape)) {
            shapes.push(shape);
        }
    }
    Ok((key, shapes))
}

/// Equality on any number of an index's leading columns, the rest as the order. What follows the key in an
/// index orders nothing any more; an index without the key gives no total order and serves nothing.
fn shapes_of(index: &Index, columns: &[Column], key: ColumnId) -> Vec<Shape> {
    let is_key = |part: &IndexColumn| part.column == key && part.function.is_none();
    let Some(last) = index.columns.iter().position(is_key) else { return vec![] };
    (0..=last).filter_map(|split| shape(index, columns, &index.columns[..=last], split)).collect()
}

fn shape(index: &Index, columns: &[Column], path: &[IndexColumn], split: usize) -> Option<Shape> {
    let (head, order) = path.split_at(split);
    let only = &index.only;
    let is_constant = |column| only.equal.iter().any(|constant| constant.column == column);
    // A row comparison has one direction, and names columns alone.
    let can_order = |part: &IndexColumn| {
        part.function.is_none() && part.descending == order[0].descending && !is_constant(part.column)
    };
    let nullable = |id: ColumnId| columns[id].nullable;
    if !path.iter().all(|part| columns[part.column].kind.is_some())
        || !order.iter().all(can_order)
        || order[1..].iter().any(|part| nullable(part.column))
    {
        return None;
    }
    let constants = only.equal.iter().map(|constant| constant.column);
    let plain = head.iter().filter(|part| part.function.is_none()).map(|part| part.column);
    let equal: Vec<ColumnId> = constants.chain(plain.filter(|&column| !is_constant(column))).collect();
    // Equality and ranges leave nulls out by themselves; where neither is asked for, the index lacks rows.
    let first = order[0].column;
    let serves_nulls = |id: &ColumnId| nullable(*id) && !equal.contains(id) && *id != first;
    if only.not_null.iter().any(serves_nulls) {
        return None;
    }
    let held = index.columns.iter().filter(|part| part.function.is_none()).map(|part| part.column);
    Some(Shape {
        functions: head.iter().filter_map(|part| Some((part.function?, part.column))).collect(),
        order: order.iter().map(|part| part.column).collect(),
        only: only.equal.clone(),
        bounded: nullable(first),
        prefix: order[0].in_byte_order && columns[first].kind == Some(Kind::Text),
        covers: held.chain(index.included.iter().copied()).collect(),
        path: path.to_vec(),
        equal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{
        Only, View,
        tests::{ACCOUNT, EXTRA, ID, PLACED, REASON, STATUS, columns, index, orders, view_with},
    };

    fn asked<'a>(equal: &[ColumnId], range: Option<ColumnId>, sort: &'a [ColumnId]) -> Asked<'a> {
        let equal = equal.iter().map(|&column| (column, Some("a value"))).collect();
        Asked { equal, range, sort, ..Asked::default() }
    }

    /// The order in which it is served.
    fn served(
        view: &View,
        equal: &[ColumnId],
        range: Option<ColumnId>,
        sort: &[ColumnId],
    ) -> Option<Vec<ColumnId>> {
        view.shape_for(&asked(equal, range, sort)).map(|shape| shape.order.clone())
    }

    fn only(equal: &[(ColumnId, &str)], not_null: &[ColumnId]) -> Only {
        let constant = |&(column, value): &(ColumnId, &str)| Constant {
            column,
            value: value.into(),
            literal: format!("'{value}'"),
        };
        Only { equal: equal.iter().map(constant).collect(), not_null: not_null.to_vec() }
    }

    #[test]
    fn no_filter_and_no_sort_is_the_order_of_the_key() {
        assert_eq!(served(&orders(), &[], None, &[]), Some(vec![ID]));
    }

    #[test]
    fn equality_on_leading_columns_leaves_the_rest_as_the_order() {
        let view = orders();
        assert_eq!(served(&view, &[ACCOUNT], None, &[]), Some(vec![PLACED, ID]));
        assert_eq!(served(&view, &[PLACED, ACCOUNT], None, &[]), Some(vec![ID]));
        assert_eq!(served(&view, &[PLACED, PLACED], None, &[]), None);
    }

    #[test]
    fn a_range_and_a_sort_fall_on_the_column_after_the_equalities() {
        let view = orders();
        assert!(served(&view, &[ACCOUNT], Some(PLACED), &[PLACED]).is_some());
        assert!(served(&view, &[], Some(PLACED), &[PLACED, ID]).is_some());
        assert!(served(&view, &[], Some(ACCOUNT), &[]).is_some());
        assert_eq!(served(&view, &[ACCOUNT], Some(ID), &[]), None);
        assert_eq!(served(&view, &[ACCOUNT], Some(PLACED), &[ID]), None);
    }

    #[test]
    fn a_range_chooses_the_index_that_begins_with_it() {
        assert_eq!(served(&orders(), &[], Some(PLACED), &[]), Some(vec![PLACED, ID]));
    }

    #[test]
    fn what_no_index_serves_has_no_shape() {
        let view = orders();
        assert_eq!(served(&view, &[STATUS], None, &[]), None);
        assert_eq!(served(&view, &[ACCOUNT, STATUS], None, &[]), None);
        assert_eq!(served(&view, &[], None, &[STATUS]), None);
    }

    #[test]
    fn a_nullable_column_gives_an_order_only_where_a_range_leaves_its_nulls_out() {
        let view = orders();
        assert!(served(&view, &[REASON], None, &[]).is_some());
        assert!(served(&view, &[], Some(REASON), &[REASON]).is_some());
        assert_eq!(served(&view, &[], None, &[REASON]), None);
        let second = view_with([index(&[PLACED, REASON, ID])]);
        assert_eq!(served(&second, &[], Some(PLACED), &[]), None);
        assert!(served(&second, &[PLACED], Some(REASON), &[]).is_some());
    }

    #[test]
    fn a_column_of_an_unknown_type_is_never_asked_by() {
        let view = view_with([index(&[EXTRA, ID]), index(&[STATUS, EXTRA, ID])]);
        assert_eq!(view.shapes.len(), 1, "{:?}", view.shapes);
    }

    #[test]
    fn an_index_without_the_key_serves_nothing_and_what_follows_the_key_is_ignored() {
        assert_eq!(view_with([index(&[PLACED])]).shapes.len(), 1);
        let view = view_with([index(&[PLACED, ID, STATUS])]);
        assert!(served(&view, &[], None, &[PLACED, ID]).is_some());
        assert_eq!(served(&view, &[], None, &[PLACED, ID, STATUS]), None);
    }

    #[test]
    fn a_view_whose_key_has_no_unique_index_of_all_rows_is_not_served() {
        let plain = index(&[ID]);
        let partial = Index { unique: true, only: only(&[(STATUS, "x")], &[]), ..index(&[ID]) };
        let refused = |index| shapes(&columns(), "id", &[index]);
        assert_eq!(refused(plain.clone()), Err(Unservable::KeyNotIndexed("id".into())));
        assert_eq!(refused(partial), Err(Unservable::KeyNotIndexed("id".into())));
        assert_eq!(shapes(&columns(), "nr", &[plain]), Err(Unservable::NoKeyColumn("nr".into())));
    }

    #[test]
    fn included_columns_are_read_from_the_index_but_not_asked_by() {
        let view = view_with([Index { included: vec![STATUS], ..index(&[PLACED, ID]) }]);
        let found = view.shape_for(&asked(&[], None, &[PLACED])).expect("served");
        assert_eq!(found.covers, [PLACED, ID, STATUS]);
        assert_eq!(served(&view, &[STATUS], None, &[]), None);
        assert_eq!(served(&view, &[], None, &[PLACED, ID, STATUS]), None);
    }

    #[test]
    fn of_two_indexes_for_the_same_queries_the_one_that_covers_more_is_offered() {
        let covering = Index { included: vec![STATUS], ..index(&[PLACED, ID]) };
        let (one, two) = (view_with([covering.clone()]), view_with([index(&[PLACED, ID]), covering]));
        assert_eq!(one.shapes, two.shapes);
    }

    #[test]
    fn a_partial_index_serves_queries_that_name_its_constant() {
        let view = view_with([Index { only: only(&[(STATUS, "open")], &[]), ..index(&[PLACED, ID]) }]);
        let with = |value| {
            let asked = Asked { equal: vec![(STATUS, value)], sort: &[PLACED], ..Asked::default() };
            view.shape_for(&asked).is_some()
        };
        assert!(with(Some("open")));
        assert!(!with(Some("closed")) && !with(None));
        assert_eq!(served(&view, &[], None, &[PLACED]), None);
    }

    #[test]
    fn a_partial_index_of_what_is_not_null_serves_only_queries_that_leave_nulls_out() {
        let of_reasons =
            |columns: &[ColumnId]| view_with([Index { only: only(&[], &[REASON]), ..index(columns) }]);
        let view = of_reasons(&[REASON, ID]);
        assert!(served(&view, &[REASON], None, &[]).is_some());
        assert!(served(&view, &[], Some(REASON), &[]).is_some());
        assert_eq!(served(&view, &[], None, &[REASON]), None);
        // Orders by time lack those without a reason, and nothing in the query says that they may.
        assert_eq!(served(&of_reasons(&[PLACED, ID]), &[], Some(PLACED), &[]), None);
    }

    #[test]
    fn an_index_may_be_descending_but_an_order_goes_one_way() {
        let descending = |places: &[usize]| {
            let mut index = index(&[ACCOUNT, PLACED, ID]);
            places.iter().for_each(|&place| index.columns[place].descending = true);
            view_with([index])
        };
        assert!(served(&descending(&[0, 1, 2]), &[], None, &[ACCOUNT, PLACED]).is_some());
        let of_account = descending(&[1, 2]);
        assert!(served(&of_account, &[ACCOUNT], None, &[PLACED]).is_some());
        assert_eq!(served(&of_account, &[], None, &[ACCOUNT]), None);
        let mixed = descending(&[1]);
        assert_eq!(served(&mixed, &[ACCOUNT], None, &[PLACED]), None);
        assert_eq!(served(&mixed, &[ACCOUNT, PLACED], None, &[]), Some(vec![ID]));
    }

    #[test]
    fn a_prefix_needs_an_index_in_the_order_of_bytes_and_other_queries_take_the_natural_one() {
        let view = orders();
        let range = |by_prefix| Asked { range: Some(REASON), by_prefix, ..Asked::default() };
        assert!(view.shape_for(&range(true)).expect("served").path[0].collate_c);
        assert!(!view.shape_for(&range(false)).expect("served").path[0].collate_c);
        let without = view_with([index(&[REASON, ID])]);
        assert_eq!(without.shape_for(&range(true)), None);
    }

    #[test]
    fn an_index_of_a_function_serves_equality_on_that_function_alone() {
        let view = orders();
        let functions = vec![(Function::Lower, STATUS)];
        let found = view.shape_for(&Asked { functions, ..Asked::default() }).expect("served");
        assert_eq!((&found.equal[..], &found.order[..]), (&[][..], &[ID][..]));
        let upper = Asked { functions: vec![(Function::Upper, STATUS)], ..Asked::default() };
        assert_eq!(view.shape_for(&upper), None);
        assert_eq!(served(&view, &[STATUS], None, &[]), None);
    }
}
