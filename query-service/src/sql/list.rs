//! Lists. Which index serves a list is the catalog's choice, not the planner's: a statement is written so that
//! its order can only be had from that index, whatever the statistics say. Equality is `= any` of an array
//! with one value, which the planner does not see through, and the order names those columns first. With a
//! plain `=` it drops them from the order, and may then take an index of the rest alone and read all of it,
//! in search of a value that is rare.

use std::fmt::Write;

use super::{
    ITEM, POSITION, Statement, TERM, Value, Values, build_is, cast, quoted, registry, source, typed,
};
use crate::{
    catalog::{ColumnId, Constant, IndexColumn, View},
    query::{COUNT_MAX, ListQuery},
};

/// Gives one row `(position bigint, term bigint, found bigint, items text or null, place_1 text or null, …, counted bigint
/// or null)`, or none if the registry names another build. `items` holds at most `limit` objects separated by
/// commas; `found` is one more than `limit` if there is more, and then the places say where the page ended.
/// `counted` is there if it was asked for, and at most one more than [`COUNT_MAX`].
pub fn list(view: &View, query: &ListQuery) -> Statement {
    let mut values = Values::default();
    let limit = format!("{}::integer", values.add(Value::Integer(query.limit as i32)));
    let list = List { view, query, limit };
    let rows = match &query.any {
        None => list.rows(None, &mut values),
        Some((column, any)) => list.merged(*column, any, &mut values),
    };
    let limit = &list.limit;
    let mut page =
        format!("select count(*) as found, array_to_string((array_agg(item))[1:{limit}], ',') as items");
    for place in list.places() {
        // Writing to a String cannot fail.
        let _ = write!(page, ", (array_agg({place}))[{limit}]::text as {place}");
    }
    let counted = if query.count { list.counted(&mut values) } else { "null::bigint".to_owned() };
    let sql = format!(
        "select {POSITION}, {TERM}, page.*, {counted} as counted {} cross join ({page} from ({rows}) as rows) as page \
         where {}",
        registry(),
        build_is(view, &mut values)
    );
    Statement { sql, values: values.0 }
}

struct List<'a> {
    view: &'a View,
    query: &'a ListQuery,
    /// The placeholder of the limit.
    limit: String,
}

/// One value of an `[in]`: its column, and the placeholder of an array that holds it alone.
type One = (ColumnId, String);

impl List<'_> {
    /// `item`, the places, and for a value of an `[in]` the equalities, of one row more than the limit.
    fn rows(&self, one: Option<&One>, values: &mut Values) -> String {
        let mut sql = format!("select {ITEM} as item");
        for (part, place) in self.query.shape.order_path().iter().zip(self.places()) {
            let _ = write!(sql, ", {} as {place}", self.term(part));
        }
        if one.is_some() {
            for (i, (part, _)) in self.equalities().enumerate() {
                let _ = write!(sql, ", {} as equal_{}", self.term(part), i + 1);
            }
        }
        let _ = write!(sql, " from {}", source(self.view, &self.query.fields));
        let conditions =
            [self.equal(one, values), self.bounds(values), self.after(values)].concat().join(" and ");
        if !conditions.is_empty() {
            let _ = write!(sql, " where {conditions}");
        }
        let _ = write!(sql, " order by {} limit {} + 1", self.order(), self.limit);
        sql
    }

    /// The rows of each of the values, merged in their common order.
    ///
    /// The rows of one value are in the order of their equalities first, as in `rows`. Outside of that, where
    /// no index is chosen any more, a plain `=` (that is always true) tells the planner that those are all
    /// the same, so that the rest of the order is the order.
    fn merged(&self, column: ColumnId, any: &[String], values: &mut Values) -> String {
        let directions = self.query.shape.order_path().iter().map(|part| self.direction(part));
        let places: Vec<String> = self.places().collect();
        let order: Vec<String> =
            places.iter().zip(directions).map(|(place, direction)| format!("{place}{direction}")).collect();
        let order = order.join(", ");
        let columns = format!("item, {}", places.join(", "));
        let branches: Vec<String> = any
            .iter()
            .map(|value| {
                let one = (column, values.add(Value::Texts(vec![value.clone()])));
                let rows = self.rows(Some(&one), values);
                let mut equal = vec![];
                let mut before = String::new();
                for (i, (part, text)) in self.equalities().enumerate() {
                    let value = self.made_of(part, values.text(text.unwrap_or(value)));
                    equal.push(format!("equal_{} = {value}", i + 1));
                    let _ = write!(before, "equal_{}, ", i + 1);
                }
                let equal = equal.join(" and ");
                format!("(select {columns} from ({rows}) as one where {equal} order by {before}{order})")
            })
            .collect();
        let branches = branches.join(" union all ");
        format!("select {columns} from ({branches}) as merged order by {order} limit {} + 1", self.limit)
    }

    /// How many rows fit, wherever the page begins: entries of the index, read up to a bound.
    fn counted(&self, values: &mut Values) -> String {
        let any = self.query.any.as_ref();
        let any = any.map(|(column, any)| (*column, values.add(Value::Texts(any.clone()))));
        let conditions = [self.equal(any.as_ref(), values), self.bounds(values)].concat();
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" where {}", conditions.join(" and "))
        };
        let (schema, table) = (quoted(&self.view.schema), quoted(&self.view.table));
        let order = self.order();
        format!(
            "(select count(*) from (select from {schema}.{table} as t{filter} order by {order} limit {}) \
             as counting)",
            COUNT_MAX + 1
        )
    }

    /// Equality on what the index begins with, and on what a partial one holds.
    fn equal(&self, one: Option<&One>, values: &mut Values) -> Vec<String> {
        let mut conditions: Vec<String> = vec![];
        if let Some(keys) = &self.query.keys {
            let key = IndexColumn { column: self.view.key, ..self.query.shape.path[0] };
            let keys = values.add(Value::Texts(keys.clone()));
            conditions.push(format!("{} = any({})", self.term(&key), self.array(&key, &keys)));
        }
        if let Some(owner) = self.query.owner_beside_keys(self.view) {
            let column = self.view.column(owner.column);
            let value = typed(column, values.text(&owner.value));
            // In words that no index serves: the rows are found by their keys, which are few.
            conditions.push(format!("(t.{} = {value}) is true", quoted(&column.name)));
        }
        conditions.extend(self.query.shape.only.iter().map(|constant| self.literal(constant)));
        let equalities: Vec<_> = self.equalities().collect();
        for (part, text) in equalities {
            let value = match (text, one) {
                (Some(text), _) => values.add(Value::Texts(vec![text.to_owned()])),
                (None, Some((_, placeholder))) => placeholder.clone(),
                (None, None) => continue,
            };
            conditions.push(format!("{} = any({})", self.term(part), self.array(part, &value)));
        }
        conditions
    }

    /// The parts of the index that are asked by equality with bound values, each with its value; none for
    /// the column of an `[in]`.
    fn equalities(&self) -> impl Iterator<Item = (&IndexColumn, Option<&str>)> {
        let query = self.query;
        let head = &query.shape.path[..query.shape.path.len() - query.order.len()];
        let is_constant = |part: &IndexColumn| query.shape.only.iter().any(|only| only.column == part.column);
        head.iter().filter(move |part| part.function.is_some() || !is_constant(part)).map(|part| {
            let value = match part.function {
                Some(function) => {
                    let asked =
                        query.functions.iter().find(|asked| (asked.0, asked.1) == (function, part.column));
                    asked.map(|(_, _, value)| value.as_str())
                }
                None => {
                    let asked = query.equal.iter().find(|(column, _)| *column == part.column);
                    asked.map(|(_, value)| value.as_str())
                }
            };
            (part, value)
        })
    }

    fn literal(&self, constant: &Constant) -> String {
        format!("t.{} = {}", quoted(&self.view.column(constant.column).name), constant.literal)
    }

    fn bounds(&self, values: &mut Values) -> Vec<String> {
        let first = &self.query.shape.order_path()[0];
        let bound = |bound: &crate::query::Bound| {
            let value = typed(self.view.column(bound.column), values.text(&bound.value));
            format!("{} {} {value}", self.term(first), bound.comparison.operator())
        };
        self.query.bounds.iter().map(bound).collect()
    }

    fn after(&self, values: &mut Values) -> Vec<String> {
        let Some(after) = &self.query.after else { return vec![] };
        let path = self.query.shape.order_path();
        let terms: Vec<String> = path.iter().map(|part| self.term(part)).collect();
        let place: Vec<String> = path
            .iter()
            .zip(after)
            .map(|(part, value)| typed(self.view.column(part.column), values.text(value)))
            .collect();
        let operator = if self.query.descending { "<" } else { ">" };
        vec![format!("({}) {operator} ({})", terms.join(", "), place.join(", "))]
    }

    /// The order of the index, from its first column on.
    fn order(&self) -> String {
        let parts = self.query.shape.path.iter();
        let parts: Vec<String> =
            parts.map(|part| format!("{}{}", self.term(part), self.direction(part))).collect();
        parts.join(", ")
    }

    /// The index's own direction, or all of it backwards.
    fn direction(&self, part: &IndexColumn) -> &'static str {
        let is_backward = self.query.descending != self.query.shape.order_path()[0].descending;
        match (part.descending != is_backward, part.nulls_first != is_backward) {
            (false, false) => "",
            (false, true) => " nulls first",
            (true, true) => " desc",
            (true, false) => " desc nulls last",
        }
    }

    /// What the index holds, spelled as the index does.
    fn term(&self, part: &IndexColumn) -> String {
        let column = format!("t.{}", quoted(&self.view.column(part.column).name));
        let term = part.function.map_or(column.clone(), |function| format!("{}({column})", function.name()));
        if part.collate_c { format!("{term} collate \"C\"") } else { term }
    }

    /// The bound values of a request as an array of what the index holds.
    fn array(&self, part: &IndexColumn, placeholder: &str) -> String {
        let array = format!("{placeholder}::text[]::{}[]", cast(self.view.column(part.column)));
        match part.function {
            Some(function) => format!("array(select {}(unnest({array})))", function.name()),
            None => array,
        }
    }

    /// One bound value as what the index holds.
    fn made_of(&self, part: &IndexColumn, placeholder: String) -> String {
        let value = typed(self.view.column(part.column), placeholder);
        part.function.map_or(value.clone(), |function| format!("{}({value})", function.name()))
    }

    fn places(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.query.order.len()).map(|i| format!("place_{i}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::tests::orders, parameters::Parameters};

    const ID: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    fn listed(query: &str) -> (String, ListQuery) {
        let parameters = Parameters::parse(query).expect("well-formed");
        let query = ListQuery::parse(&orders(), &parameters, None).expect("served");
        (list(&orders(), &query).sql, query)
    }

    /// What the account `ID` gets, who sees its own orders.
    fn listed_to_owner(query: &str) -> String {
        let view = View { owner: Some(1), ..orders() };
        let parameters = Parameters::parse(query).expect("well-formed");
        let query = ListQuery::parse(&view, &parameters, view.owner_of(ID).as_ref()).expect("served");
        list(&view, &query).sql
    }

    fn assert_has(sql: &str, part: &str) {
        assert!(sql.contains(part), "`{part}` is not in\n{sql}");
    }

    #[test]
    fn a_list_reads_one_row_more_than_it_gives_in_the_order_of_the_whole_index() {
        let (sql, _) = listed(&format!("account_id={ID}&placed_at[lt]=2026-01-01&sort=-placed_at"));
        assert_has(
            &sql,
            "where t.\"account_id\" = any($2::text[]::uuid[]) and t.\"placed_at\" < $3::text::timestamptz",
        );
        assert_has(
            &sql,
            "order by t.\"account_id\" desc, t.\"placed_at\" desc, t.\"id\" desc limit $1::integer + 1",
        );
    }

    #[test]
    fn the_rows_of_an_owner_are_read_and_counted_by_their_owner() {
        let sql = listed_to_owner("sort=-placed_at&count=true");
        assert_eq!(sql.matches("where t.\"account_id\" = any(").count(), 2, "{sql}");
        assert_has(&sql, "order by t.\"account_id\" desc, t.\"placed_at\" desc, t.\"id\" desc limit");
        let sql = listed_to_owner(&format!("id={ID}&count=true"));
        assert_eq!(sql.matches("and (t.\"account_id\" = $").count(), 2, "{sql}");
    }

    #[test]
    fn a_page_begins_after_the_place_of_its_cursor_and_never_counts_rows_to_get_there() {
        let (_, mut query) = listed("sort=-placed_at");
        query.after = Some(vec!["2026-01-01 00:00:00+00".into(), ID.into()]);
        let sql = list(&orders(), &query).sql;
        assert_has(&sql, "(t.\"placed_at\", t.\"id\") < ($2::text::timestamptz, $3::text::uuid)");
        assert!(!sql.contains("offset"));
    }

    #[test]
    fn the_rows_of_several_values_are_merged_in_their_common_order() {
        let other = ID.replace('6', "7");
        let (sql, _) = listed(&format!("account_id[in]={ID},{other}&sort=-placed_at"));
        assert_eq!(sql.matches("t.\"account_id\" = any(").count(), 2, "{sql}");
        assert_has(&sql, "order by equal_1, place_1 desc, place_2 desc) union all (");
        assert_has(&sql, "as merged order by place_1 desc, place_2 desc limit $1::integer + 1");
    }

    #[test]
    fn a_count_reads_the_index_up_to_its_bound_and_is_asked_for() {
        let (sql, _) = listed("count=true&limit=1&sort=placed_at");
        assert_has(
            &sql,
            "(select count(*) from (select from \"public\".\"orders_v1\" as t order by t.\"placed_at\", t.\"id\" limit 10001) as counting) as counted",
        );
        assert_has(&listed("limit=1").0, "null::bigint as counted");
    }

    #[test]
    fn values_never_become_part_of_a_statement() {
        let (one, _) = listed("reason=%27%3B%20drop%20table%20orders%3B--&limit=5");
        let (other, _) = listed("reason=late&limit=7");
        assert_eq!(one, other);
    }
}
