//! A view's table as the registry and Postgres's own catalog describe it.

use std::collections::BTreeSet;

use domain::view::Definition;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::{error::ViewError, sql::Statements};

pub struct Table {
    /// For people.
    pub name: String,
    pub statements: Statements,
    /// The columns of any index, without the key column: what rows are found by.
    pub indexed: Vec<String>,
    columns: BTreeSet<String>,
}

#[derive(sqlx::FromRow)]
struct Registered {
    version: i32,
    key_column: String,
    table_name: String,
    schema: Option<String>,
    oid: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Column {
    name: String,
    type_name: String,
    is_indexed: bool,
}

impl Table {
    pub async fn load(connection: &mut PgConnection, definition: &Definition) -> Result<Self, ViewError> {
        let registered = registered(connection, definition).await?;
        let (Some(schema), Some(oid)) = (&registered.schema, registered.oid) else {
            let problem = format!("there is no table {}", registered.table_name);
            return Err(ViewError::Registry(problem));
        };
        let columns = columns(connection, oid).await?;
        let key = &registered.key_column;
        let Some(key_type) = columns.iter().find(|column| column.name == *key) else {
            let problem = format!("table {} has no key column {key}", registered.table_name);
            return Err(ViewError::Registry(problem));
        };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        Ok(Self {
            statements: Statements::new(schema, &registered.table_name, key, &key_type.type_name, &names),
            indexed: columns
                .iter()
                .filter(|column| column.is_indexed && column.name != *key)
                .map(|column| column.name.clone())
                .collect(),
            columns: names.iter().map(|name| (*name).to_owned()).collect(),
            name: registered.table_name,
        })
    }

    /// A field without a column would be dropped silently, a column without a field emptied.
    pub fn check_fields(&self, row: &Map<String, Value>) -> Result<(), ViewError> {
        let fields: BTreeSet<&str> = row.keys().map(String::as_str).collect();
        let columns: BTreeSet<&str> = self.columns.iter().map(String::as_str).collect();
        let missing: Vec<&&str> = fields.difference(&columns).collect();
        let unknown: Vec<&&str> = columns.difference(&fields).collect();
        if missing.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        let difference = format!("fields without a column {missing:?}, columns without a field {unknown:?}");
        Err(ViewError::Columns { table: self.name.clone(), difference })
    }
}

async fn registered(connection: &mut PgConnection, definition: &Definition) -> Result<Registered, ViewError> {
    let registered: Option<Registered> = sqlx::query_as(
        "select v.version, v.key_column, v.table_name, n.nspname::text as schema, c.oid::int8 as oid
         from views v
         left join pg_class c on c.oid = to_regclass(quote_ident(v.table_name))
         left join pg_namespace n on n.oid = c.relnamespace
         where v.name = $1",
    )
    .bind(definition.name)
    .fetch_optional(connection)
    .await?;
    let Some(registered) = registered else {
        let problem = format!("it has no view {}; a migration has to add it", definition.name);
        return Err(ViewError::Registry(problem));
    };
    if registered.version != definition.version {
        return Err(ViewError::Registry(format!(
            "table {} is version {} of the view, this program folds version {}",
            registered.table_name, registered.version, definition.version
        )));
    }
    if registered.key_column != definition.key {
        return Err(ViewError::Registry(format!(
            "it names {} as the key column of {}, this program {}",
            registered.key_column, definition.name, definition.key
        )));
    }
    Ok(registered)
}

async fn columns(connection: &mut PgConnection, table: i64) -> Result<Vec<Column>, sqlx::Error> {
    sqlx::query_as(
        "select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type_name,
                exists (
                    select from pg_index i where i.indrelid = a.attrelid and a.attnum = any(i.indkey)
                ) as is_indexed
         from pg_attribute a
         where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
         order by a.attnum",
    )
    .bind(table)
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        Table {
            name: "accounts".into(),
            statements: Statements::new("public", "accounts", "id", "uuid", &["id", "email"]),
            indexed: vec!["email".into()],
            columns: ["id".to_owned(), "email".to_owned()].into(),
        }
    }

    fn check(row: Value) -> Result<(), ViewError> {
        table().check_fields(row.as_object().unwrap())
    }

    #[test]
    fn a_row_whose_fields_are_the_columns_fits() {
        assert!(check(json!({"id": 1, "email": null})).is_ok());
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_with_the_names_on_both_sides() {
        let error = check(json!({"id": 1, "region": "eu"})).unwrap_err().to_string();
        assert!(error.contains("[\"region\"]") && error.contains("[\"email\"]"), "{error}");
    }
}
