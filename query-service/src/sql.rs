//! Queries as SQL. Each answer comes from one statement, hence from one snapshot: the rows, already as
//! JSON of just the fields that were asked, and the checkpoint of their view. Identifiers come from the
//! catalog and are quoted; values are bound as text and cast to their column's type. The text of a statement
//! depends on the shape of a query alone, so that each is prepared once a connection.

mod list;

pub use list::list;

use crate::catalog::{Column, ColumnId, View};

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

/// One row that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub key: String,
    /// For whom, if it is only for its owner.
    pub owner: String,
}

/// Gives one row `(position bigint, term bigint, items text[])`, or none if the registry names another build.
/// `items` has an element for each key, in their order: null where there is no such row, or where it is not that of
/// whom it was asked for. All are asked for owners in the column `owner`, or none is.
pub fn rows(view: &View, fields: &[ColumnId], owner: Option<ColumnId>, keys: Vec<RowKey>) -> Statement {
    let mut values = Values::default();
    let key = view.key_column();
    let (keys, owners) = keys.into_iter().map(|RowKey { key, owner }| (key, owner)).unzip();
    let keys = format!("{}::text[]::{}[]", values.add(Value::Texts(keys)), cast(key));
    let (item, asked) = match owner.map(|owner| view.column(owner)) {
        None => (ITEM.to_owned(), format!("unnest({keys}) as asked(key)")),
        Some(owner) => {
            let owners = format!("{}::text[]::{}[]", values.add(Value::Texts(owners)), cast(owner));
            // Not a condition, so that the row is found by its key, whoever's it is.
            let item = format!("case when t.{} = asked.owner then {ITEM} end", quoted(&owner.name));
            (item, format!("unnest({keys}, {owners}) as asked(key, owner)"))
        }
    };
    let row =
        format!("select {item} from {} where t.{} = asked.key", source(view, fields), quoted(&key.name));
    let sql = format!(
        "select {POSITION}, {TERM}, array(select ({row}) from {asked}) as items {}",
        at_build(view, &mut values)
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
    fn rows_are_read_by_their_keys_with_their_position_in_one_statement() {
        let asked = |owner: &str| vec![RowKey { key: ID.into(), owner: owner.into() }];
        let statement = rows(&orders(), &[2, 0], None, asked(""));
        let expected = "select coalesce(c.position, 0) as position, v.term, \
             array(select (select to_json(narrow.*)::text from \"public\".\"orders_v1\" as t \
             cross join lateral (select t.\"status\", t.\"id\") as narrow \
             where t.\"id\" = asked.key) from unnest($1::text[]::uuid[]) as asked(key)) as items \
             from views as v left join checkpoints as c on c.view = v.name and c.build = v.build \
             where v.name = $2 and v.build = $3";
        assert_eq!(statement.sql, expected);
        let values = [Value::Texts(vec![ID.into()]), Value::Text("orders".into()), Value::Integer(1)];
        assert_eq!(statement.values, values);
        let owned = rows(&orders(), &[2, 0], Some(1), asked("' or 1=1 --"));
        for part in [
            "case when t.\"account_id\" = asked.owner then to_json(narrow.*)::text end",
            "where t.\"id\" = asked.key)",
            "unnest($1::text[]::uuid[], $2::text[]::uuid[]) as asked(key, owner)",
        ] {
            assert!(owned.sql.contains(part), "`{part}` is not in\n{}", owned.sql);
        }
        assert_eq!(owned.values[1], Value::Texts(vec!["' or 1=1 --".into()]));
    }

    #[test]
    fn an_identifier_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"; drop"), "\"a\"\"; drop\"");
    }
}
