//! Queries as SQL. Each answer comes from one statement, hence from one snapshot: the rows, already as
//! JSON of just the fields that were asked, and the checkpoint of their view. Identifiers come from the
//! catalog and are quoted; values are bound as text and cast to their column's type. The text of a statement
//! depends on the shape of a query alone, so that each is prepared once a connection.

use std::fmt::Write;

use crate::{
    catalog::{Column, ColumnId, View},
    query::ListQuery,
};

/// A statement and what is bound to it.
#[derive(Debug, PartialEq)]
pub struct Statement {
    pub sql: String,
    pub values: Vec<Value>,
}

#[derive(Debug, PartialEq)]
pub enum Value {
    Text(String),
    Texts(Vec<String>),
    Integer(i32),
}

/// Gives one row `(position bigint, term bigint, items text[])`, or none if the registry names another build.
/// `items` has an element for each key, in their order: null where there is no such row.
pub fn rows(view: &View, fields: &[ColumnId], keys: Vec<String>) -> Statement {
    let mut values = Values::default();
    let key = view.key_column();
    let asked = format!("unnest({}::text[]::{}[]) as asked(key)", values.add(Value::Texts(keys)), cast(key));
    let row =
        format!("select {ITEM} from {} where t.{} = asked.key", source(view, fields), quoted(&key.name));
    let sql = format!(
        "select {POSITION}, {TERM}, array(select ({row}) from {asked}) as items {}",
        at_build(view, &mut values)
    );
    Statement { sql, values: values.0 }
}

/// Gives one row `(position bigint, term bigint, found bigint, items text or null, place_1 text or null, …)`, or none if
/// the registry names another build. `items` holds at most `limit` objects separated by commas; `found`
/// is one more than `limit` if there is more, and then the places say where the page ended.
pub fn list(view: &View, query: &ListQuery) -> Statement {
    let mut values = Values::default();
    let limit = format!("{}::integer", values.add(Value::Integer(query.limit as i32)));
    let mut rows = format!("select {ITEM} as item");
    let mut page =
        format!("select count(*) as found, array_to_string((array_agg(item))[1:{limit}], ',') as items");
    for (i, &column) in query.order.iter().enumerate() {
        let name = quoted(&view.column(column).name);
        // Writing to a String cannot fail.
        let _ = write!(rows, ", t.{name} as place_{}", i + 1);
        let _ = write!(page, ", (array_agg(place_{0}))[{limit}]::text as place_{0}", i + 1);
    }
    let _ = write!(rows, " from {}", source(view, &query.fields));
    let conditions = conditions(view, query, &mut values);
    if !conditions.is_empty() {
        let _ = write!(rows, " where {}", conditions.join(" and "));
    }
    let _ = write!(rows, " order by {} limit {limit} + 1", order(view, query));
    let sql = format!(
        "select {POSITION}, {TERM}, page.* {} cross join ({page} from ({rows}) as rows) as page where {}",
        registry(),
        build_is(view, &mut values)
    );
    Statement { sql, values: values.0 }
}

const POSITION: &str = "coalesce(c.position, 0) as position";
const TERM: &str = "v.term";
const ITEM: &str = "to_json(narrow.*)::text";

fn registry() -> &'static str {
    "from views as v left join checkpoints as c on c.view = v.name and c.build = v.build"
}

fn build_is(view: &View, values: &mut Values) -> String {
    let name = values.text(&view.name);
    let build = values.add(Value::Integer(view.build));
    format!("v.name = {name} and v.build = {build}")
}

fn at_build(view: &View, values: &mut Values) -> String {
    format!("{} where {}", registry(), build_is(view, values))
}

/// The table as `t`, and as `narrow` the row of just the fields, whose columns name the members of the JSON.
fn source(view: &View, fields: &[ColumnId]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|&field| format!("t.{}", quoted(&view.column(field).name))).collect();
    format!(
        "{}.{} as t cross join lateral (select {}) as narrow",
        quoted(&view.schema),
        quoted(&view.table),
        fields.join(", ")
    )
}

fn conditions(view: &View, query: &ListQuery, values: &mut Values) -> Vec<String> {
    let mut conditions = vec![];
    if let Some(keys) = &query.keys {
        let column = view.key_column();
        let keys = values.add(Value::Texts(keys.clone()));
        conditions.push(format!("t.{} = any({keys}::text[]::{}[])", quoted(&column.name), cast(column)));
    }
    for (id, value) in &query.equal {
        conditions.push(equals(view.column(*id), values.text(value)));
    }
    for bound in &query.bounds {
        let column = view.column(bound.column);
        let operator = bound.comparison.operator();
        let value = typed(column, values.text(&bound.value));
        conditions.push(format!("t.{} {operator} {value}", quoted(&column.name)));
    }
    if let Some(after) = &query.after {
        let columns = query.order.iter().map(|&id| view.column(id));
        let place: Vec<String> =
            columns.zip(after).map(|(column, value)| typed(column, values.text(value))).collect();
        let operator = if query.descending { "<" } else { ">" };
        conditions.push(format!(
            "({}) {operator} ({})",
            order_columns(view, query).join(", "),
            place.join(", ")
        ));
    }
    conditions
}

fn order(view: &View, query: &ListQuery) -> String {
    let direction = if query.descending { " desc" } else { "" };
    let columns: Vec<String> =
        order_columns(view, query).iter().map(|column| format!("{column}{direction}")).collect();
    columns.join(", ")
}

fn order_columns(view: &View, query: &ListQuery) -> Vec<String> {
    query.order.iter().map(|&id| format!("t.{}", quoted(&view.column(id).name))).collect()
}

fn equals(column: &Column, placeholder: String) -> String {
    format!("t.{} = {}", quoted(&column.name), typed(column, placeholder))
}

fn typed(column: &Column, placeholder: String) -> String {
    format!("{placeholder}::text::{}", cast(column))
}

fn cast(column: &Column) -> &'static str {
    column.kind.expect("a query asks only by columns of a known kind: shapes hold no others").sql_type()
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[derive(Default)]
struct Values(Vec<Value>);

impl Values {
    /// The placeholder of the value.
    fn add(&mut self, value: Value) -> String {
        self.0.push(value);
        format!("${}", self.0.len())
    }

    fn text(&mut self, text: &str) -> String {
        self.add(Value::Text(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::tests::orders, parameters::Parameters};

    const ID: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    fn listed(query: &str) -> (String, ListQuery) {
        let parameters = Parameters::parse(query).expect("well-formed");
        let query = ListQuery::parse(&orders(), &parameters).expect("served");
        (list(&orders(), &query).sql, query)
    }

    fn assert_has(sql: &str, part: &str) {
        assert!(sql.contains(part), "`{part}` is not in\n{sql}");
    }

    #[test]
    fn rows_are_read_by_their_keys_with_their_position_in_one_statement() {
        let statement = rows(&orders(), &[2, 0], vec![ID.into()]);
        let expected = "select coalesce(c.position, 0) as position, v.term, \
             array(select (select to_json(narrow.*)::text from \"public\".\"orders_v1\" as t \
             cross join lateral (select t.\"status\", t.\"id\") as narrow \
             where t.\"id\" = asked.key) from unnest($1::text[]::uuid[]) as asked(key)) as items \
             from views as v left join checkpoints as c on c.view = v.name and c.build = v.build \
             where v.name = $2 and v.build = $3";
        assert_eq!(statement.sql, expected);
        let values = [Value::Texts(vec![ID.into()]), Value::Text("orders".into()), Value::Integer(1)];
        assert_eq!(statement.values, values);
    }

    #[test]
    fn a_list_reads_one_row_more_than_it_gives_in_the_order_of_the_index() {
        let (sql, _) = listed(&format!("account_id={ID}&placed_at[lt]=2026-01-01&sort=-placed_at"));
        assert_has(
            &sql,
            "where t.\"account_id\" = $2::text::uuid and t.\"placed_at\" < $3::text::timestamptz",
        );
        assert_has(&sql, "order by t.\"placed_at\" desc, t.\"id\" desc limit $1::integer + 1");
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
    fn values_never_become_part_of_a_statement() {
        let (one, _) = listed("reason=%27%3B%20drop%20table%20orders%3B--&limit=5");
        let (other, _) = listed("reason=late&limit=7");
        assert_eq!(one, other);
    }

    #[test]
    fn an_identifier_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"; drop"), "\"a\"\"; drop\"");
    }
}
