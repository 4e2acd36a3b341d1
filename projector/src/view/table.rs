//! A build's table as Postgres's own catalog describes it.

use std::collections::{BTreeMap, BTreeSet};

use domain::view::Definition;
use sqlx::PgConnection;

use super::{error::ViewError, sql::Statements};
use crate::registry::Build;

#[derive(Clone, Debug)]
pub struct Table {
    /// For people.
    pub name: String,
    pub statements: Statements,
    /// What rows are found by, without the key column: the columns that any index is sorted by, and those in its
    /// expressions and its predicate. Columns that an index merely includes find no row.
    pub indexed: Vec<String>,
    /// Each column's type, by its name.
    columns: BTreeMap<String, String>,
}

#[derive(sqlx::FromRow)]
struct Column {
    name: String,
    type_name: String,
    is_indexed: bool,
}

impl Table {
    pub async fn load(
        connection: &mut PgConnection,
        definition: &Definition,
        build: &Build,
    ) -> Result<Self, ViewError> {
        let found: Option<(String, String, i64)> = sqlx::query_as(
            "select n.nspname::text, v.key_column, c.oid::int8
             from views v, pg_class c join pg_namespace n on n.oid = c.relnamespace
             where v.name = $1 and c.oid = to_regclass(quote_ident($2))",
        )
        .bind(definition.name)
        .bind(&build.table)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((schema, key, oid)) = found else {
            return Err(ViewError::Registry(format!("there is no table {}", build.table)));
        };
        if key != definition.key {
            return Err(ViewError::Registry(format!(
                "it names {key} as the key column of {}, this program {}",
                definition.name, definition.key
            )));
        }
        let columns = columns(connection, oid).await?;
        let Some(key_type) = columns.iter().find(|column| column.name == key) else {
            return Err(ViewError::Registry(format!("table {} has no key column {key}", build.table)));
        };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        Ok(Self {
            statements: Statements::new(&schema, &build.table, &key, &key_type.type_name, &names),
            indexed: columns
                .iter()
                .filter(|column| column.is_indexed && column.name != key)
                .map(|column| column.name.clone())
                .collect(),
            name: build.table.clone(),
            columns: columns.into_iter().map(|column| (column.name, column.type_name)).collect(),
        })
    }

    /// A field without a column would be dropped silently, a column without a field emptied.
    pub fn check_fields<'a>(&self, fields: impl Iterator<Item = &'a str>) -> Result<(), ViewError> {
        let fields: BTreeSet<&str> = fields.collect();
        let columns: BTreeSet<&str> = self.columns.keys().map(String::as_str).collect();
        let missing: Vec<&&str> = fields.difference(&columns).collect();
        let unknown: Vec<&&str> = columns.difference(&fields).collect();
        if missing.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        let difference = format!("fields without a column {missing:?}, columns without a field {unknown:?}");
        Err(ViewError::Columns { table: self.name.clone(), difference })
    }

    /// The statement that reads all rows with one of some values in `column`.
    pub fn select_by(&self, column: &str) -> Result<String, ViewError> {
        let found = self.columns.get(column).filter(|_| self.indexed.iter().any(|indexed| indexed == column));
        let Some(type_name) = found else {
            let problem = format!("{} has no index on {column}, by which rows are to be found", self.name);
            return Err(ViewError::Registry(problem));
        };
        Ok(self.statements.select_by(column, type_name))
    }
}

async fn columns(connection: &mut PgConnection, table: i64) -> Result<Vec<Column>, sqlx::Error> {
    sqlx::query_as(
        "select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type_name,
                exists (
                    select from pg_index i
                    where i.indrelid = a.attrelid
                      and (a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1]) or a.attnum in (
                          -- A variable in a stored expression is of the table, the only one that there is.
                          select match[1]::int2 from regexp_matches(
                              concat(i.indexprs::text, i.indpred::text), ':varattno ([0-9]+)', 'g') as match
                      ))
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
    use super::*;

    fn table() -> Table {
        let columns = [("id", "uuid"), ("email", "text"), ("name", "text")];
        Table {
            name: "accounts".into(),
            statements: Statements::new("public", "accounts", "id", "uuid", &["id", "email", "name"]),
            indexed: vec!["email".into()],
            columns: columns.map(|(name, type_name)| (name.to_owned(), type_name.to_owned())).into(),
        }
    }

    fn check(fields: [&str; 3]) -> Result<(), ViewError> {
        table().check_fields(fields.into_iter())
    }

    #[test]
    fn a_row_whose_fields_are_the_columns_fits() {
        assert!(check(["name", "id", "email"]).is_ok());
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_with_the_names_on_both_sides() {
        let error = check(["id", "name", "region"]).unwrap_err().to_string();
        assert!(error.contains("[\"region\"]") && error.contains("[\"email\"]"), "{error}");
    }

    #[test]
    fn rows_are_found_by_indexed_columns_alone() {
        assert!(table().select_by("email").unwrap().contains("r.\"email\" = any($1::text[]::text[])"));
        assert!(table().select_by("name").unwrap_err().to_string().contains("no index on name"));
    }
}
