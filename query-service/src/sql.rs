//! Queries as SQL. Each answer comes from one statement, hence from one snapshot: the rows, already as
//! JSON of just the fields that were asked, and the checkpoint of their view. Identifiers come from the
//! catalog and are quoted; values are bound as text and cast to their column's type. The text of a statement
//! depends on the shape of a query alone, so that each is prepared once a connection.

mod list;

pub use list::list;

use crate::{
    catalog::{Column, ColumnId, View},
    query::RowQuery,
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

/// Gives one row `(position bigint, item text or null)`, or none if the registry names another build.
pub fn row(view: &View, query: &RowQuery) -> Statement {
    let mut values = Values::default();
    let source = source(view, &query.fields);
    let key = equals(view.key_column(), values.text(&query.key));
    let body = format!("(select {ITEM} from {source} where {key}) as item");
    let sql = format!("select {POSITION}, {body} {}", at_build(view, &mut values));
    Statement { sql, values: values.0 }
}

const POSITION: &str = "coalesce(c.position, 0) as position";
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
    use crate::catalog::tests::orders;

    const ID: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    #[test]
    fn a_row_reads_its_fields_and_its_position_in_one_statement() {
        let query = RowQuery { key: ID.into(), fields: vec![2, 0] };
        let statement = row(&orders(), &query);
        let expected = "select coalesce(c.position, 0) as position, \
             (select to_json(narrow.*)::text from \"public\".\"orders_v1\" as t \
             cross join lateral (select t.\"status\", t.\"id\") as narrow \
             where t.\"id\" = $1::text::uuid) as item \
             from views as v left join checkpoints as c on c.view = v.name and c.build = v.build \
             where v.name = $2 and v.build = $3";
        assert_eq!(statement.sql, expected);
        let values = [Value::Text(ID.into()), Value::Text("orders".into()), Value::Integer(1)];
        assert_eq!(statement.values, values);
    }

    #[test]
    fn an_identifier_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"; drop"), "\"a\"\"; drop\"");
    }
}
