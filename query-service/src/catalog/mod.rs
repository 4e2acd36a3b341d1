//! The catalog: which views there are, what their rows hold, and which queries their indexes serve.
//! It is the database's own: [`load`] reads it from there.

mod describe;
mod kind;
mod load;

use std::{collections::BTreeMap, sync::Arc};

pub use kind::Kind;
pub use load::{LoadError, load};

/// Every view that can be asked, by its public name.
#[derive(Debug, Default, PartialEq)]
pub struct Catalog {
    pub views: BTreeMap<Arc<str>, Arc<View>>,
}

impl Catalog {
    pub fn view(&self, name: &str) -> Option<&Arc<View>> {
        self.views.get(name)
    }
}

/// One view, in the build that the registry names.
#[derive(Debug, PartialEq)]
pub struct View {
    pub name: Arc<str>,
    pub version: i32,
    /// Every statement checks it: a view that has been switched to another table is never read from the old.
    pub build: i32,
    pub schema: String,
    pub table: String,
    pub columns: Vec<Column>,
    /// The column whose value names a row.
    pub key: ColumnId,
    /// What may be asked of the view, the key's own shape first.
    pub shapes: Vec<Shape>,
}

/// The place of a column in its view's `columns`.
pub type ColumnId = usize;

#[derive(Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// The type as Postgres writes it.
    pub type_name: String,
    /// `None`: of a type that cannot be asked by.
    pub kind: Option<Kind>,
    pub nullable: bool,
}

impl Column {
    /// The kind, if Postgres keeps values of it exactly as they are given: neither rounded nor cut.
    pub fn exact_kind(&self) -> Option<Kind> {
        let is_cut = self.type_name.contains('(');
        self.kind.filter(|kind| !is_cut && !matches!(kind, Kind::Numeric | Kind::Timestamp))
    }
}

/// One way in which an index serves a query: equality on all of `equal`, then a range on the first column
/// of `order`, in the order of `order`, forwards or backwards. `order` ends in the key, so that it is total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub equal: Vec<ColumnId>,
    pub order: Vec<ColumnId>,
}

impl Shape {
    pub fn has(&self, column: ColumnId) -> bool {
        self.equal.contains(&column) || self.order.contains(&column)
    }
}

/// An index whose columns are all ascending and plain, as it stands in the database.
#[derive(Clone, Debug)]
pub struct Index {
    pub columns: Vec<ColumnId>,
    pub unique: bool,
}

/// Why a registered view cannot be asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    #[error("the table has no column `{0}`, which the registry names as the key")]
    NoKeyColumn(String),
    #[error(
        "the key `{0}` has no unique index of its own, may be null, or is of a type that cannot be asked by"
    )]
    KeyNotIndexed(String),
}

impl View {
    pub fn column(&self, id: ColumnId) -> &Column {
        &self.columns[id]
    }

    pub fn column_named(&self, name: &str) -> Option<ColumnId> {
        self.columns.iter().position(|column| column.name == name)
    }

    pub fn key_column(&self) -> &Column {
        self.column(self.key)
    }

    /// The shape that serves equality on exactly `equal`, a range on `range`, and an order that begins with
    /// `sort` (empty: the shape's own order, the shortest of those that fit).
    pub fn shape_for(
        &self,
        equal: &[ColumnId],
        range: Option<ColumnId>,
        sort: &[ColumnId],
    ) -> Option<&Shape> {
        self.shapes.iter().find(|shape| {
            shape.equal.len() == equal.len()
                && equal.iter().all(|column| shape.equal.contains(column))
                && range.is_none_or(|column| shape.order[0] == column)
                && shape.order.starts_with(sort)
        })
    }
}

/// The key of a view, and all that its indexes serve.
pub fn shapes(
    columns: &[Column],
    key_name: &str,
    indexes: &[Index],
) -> Result<(ColumnId, Vec<Shape>), Unservable> {
    let key = columns
        .iter()
        .position(|column| column.name == key_name)
        .ok_or_else(|| Unservable::NoKeyColumn(key_name.to_owned()))?;
    let key_indexed = indexes.iter().any(|index| index.unique && index.columns == [key]);
    if !key_indexed || !can_order(&columns[key]) {
        return Err(Unservable::KeyNotIndexed(key_name.to_owned()));
    }
    let by_key = Shape { equal: vec![], order: vec![key] };
    let mut others: Vec<Shape> = indexes.iter().flat_map(|index| shapes_of(index, columns, key)).collect();
    others.sort_by_key(|shape| (shape.equal.len(), shape.order.len()));
    let mut shapes = vec![by_key];
    for shape in others {
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    Ok((key, shapes))
}

/// Equality on any number of an index's leading columns, the rest as the order. What follows the key in an
/// index orders nothing any more; an index without the key gives no total order and serves nothing.
fn shapes_of(index: &Index, columns: &[Column], key: ColumnId) -> Vec<Shape> {
    let Some(last) = index.columns.iter().position(|&column| column == key) else { return vec![] };
    (0..=last)
        .map(|split| Shape {
            equal: index.columns[..split].to_vec(),
            order: index.columns[split..=last].to_vec(),
        })
        .filter(|shape| shape.equal.iter().all(|&column| columns[column].kind.is_some()))
        .filter(|shape| shape.order.iter().all(|&column| can_order(&columns[column])))
        .collect()
}

/// Nulls compare with nothing, so a cursor could not name a place among them.
fn can_order(column: &Column) -> bool {
    column.kind.is_some() && !column.nullable
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn column(name: &str, kind: Option<Kind>, nullable: bool) -> Column {
        Column { name: name.into(), type_name: name.into(), kind, nullable }
    }

    /// id, account_id, status, placed_at, reason (nullable), extra (of a type that cannot be asked by).
    fn columns() -> Vec<Column> {
        vec![
            column("id", Some(Kind::Uuid), false),
            column("account_id", Some(Kind::Uuid), false),
            column("status", Some(Kind::Text), false),
            column("placed_at", Some(Kind::Timestamp), false),
            column("reason", Some(Kind::Text), true),
            column("extra", None, false),
        ]
    }
    const ID: ColumnId = 0;
    const ACCOUNT: ColumnId = 1;
    const STATUS: ColumnId = 2;
    const PLACED: ColumnId = 3;
    const REASON: ColumnId = 4;
    const EXTRA: ColumnId = 5;

    fn view_with(indexes: &[&[ColumnId]]) -> View {
        let mut all = vec![Index { columns: vec![ID], unique: true }];
        all.extend(indexes.iter().map(|columns| Index { columns: columns.to_vec(), unique: false }));
        let (key, shapes) = shapes(&columns(), "id", &all).expect("the key is indexed");
        View {
            name: "orders".into(),
            version: 1,
            build: 1,
            schema: "public".into(),
            table: "orders_v1".into(),
            columns: columns(),
            key,
            shapes,
        }
    }

    /// The orders of an account by time; all orders by time; orders by the reason of their cancellation.
    pub fn orders() -> View {
        view_with(&[&[ACCOUNT, PLACED, ID], &[PLACED, ID], &[REASON, ID]])
    }

    #[test]
    fn no_filter_and_no_sort_is_the_order_of_the_key() {
        assert_eq!(orders().shape_for(&[], None, &[]).map(|shape| shape.order.clone()), Some(vec![ID]));
    }

    #[test]
    fn equality_on_leading_columns_leaves_the_rest_as_the_order() {
        let view = orders();
        let shape = view.shape_for(&[ACCOUNT], None, &[]).expect("served");
        assert_eq!(shape.order, [PLACED, ID]);
        let shape = view.shape_for(&[PLACED, ACCOUNT], None, &[]).expect("served in any order");
        assert_eq!(shape.order, [ID]);
    }

    #[test]
    fn a_range_and_a_sort_fall_on_the_column_after_the_equalities() {
        let view = orders();
        assert!(view.shape_for(&[ACCOUNT], Some(PLACED), &[PLACED]).is_some());
        assert!(view.shape_for(&[], Some(PLACED), &[PLACED, ID]).is_some());
        assert!(view.shape_for(&[], Some(ACCOUNT), &[]).is_some());
        assert!(view.shape_for(&[ACCOUNT], Some(ID), &[]).is_none());
        assert!(view.shape_for(&[ACCOUNT], Some(PLACED), &[ID]).is_none());
    }

    #[test]
    fn a_range_chooses_the_index_that_begins_with_it() {
        let view = orders();
        assert_eq!(
            view.shape_for(&[], Some(PLACED), &[]).map(|shape| &shape.order[..]),
            Some(&[PLACED, ID][..])
        );
    }

    #[test]
    fn what_no_index_serves_has_no_shape() {
        let view = orders();
        assert!(view.shape_for(&[STATUS], None, &[]).is_none());
        assert!(view.shape_for(&[ACCOUNT, STATUS], None, &[]).is_none());
        assert!(view.shape_for(&[], None, &[STATUS]).is_none());
    }

    #[test]
    fn a_nullable_column_is_asked_by_equality_only() {
        let view = orders();
        assert!(view.shape_for(&[REASON], None, &[]).is_some());
        assert!(view.shape_for(&[], None, &[REASON]).is_none());
        assert!(view.shape_for(&[], Some(REASON), &[]).is_none());
    }

    #[test]
    fn a_column_of_an_unknown_type_is_never_asked_by() {
        let view = view_with(&[&[EXTRA, ID], &[STATUS, EXTRA, ID]]);
        assert_eq!(view.shapes.len(), 1, "{:?}", view.shapes);
    }

    #[test]
    fn an_index_without_the_key_serves_nothing_and_what_follows_the_key_is_ignored() {
        assert_eq!(view_with(&[&[PLACED]]).shapes.len(), 1);
        let view = view_with(&[&[PLACED, ID, STATUS]]);
        assert!(view.shape_for(&[], None, &[PLACED, ID]).is_some());
        assert!(view.shape_for(&[], None, &[PLACED, ID, STATUS]).is_none());
    }

    #[test]
    fn a_view_whose_key_has_no_unique_index_is_not_served() {
        let plain = Index { columns: vec![ID], unique: false };
        assert_eq!(shapes(&columns(), "id", &[plain]), Err(Unservable::KeyNotIndexed("id".into())));
        assert_eq!(shapes(&columns(), "nr", &[]), Err(Unservable::NoKeyColumn("nr".into())));
    }
}
