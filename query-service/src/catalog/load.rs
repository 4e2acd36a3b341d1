//! Reads the catalog from the registry `views` and from Postgres's own description of the tables.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use sqlx::PgConnection;

use super::{Catalog, Column, Index, Kind, View, shapes};

/// More views than this are a mistake in the registry, not a catalog.
const VIEWS_MAX: i64 = 1_000;

/// Only what a query can rely on counts as an index: complete, over whole rows and plain columns, ascending
/// with nulls last, compared in the way that the column itself is.
const CATALOG: &str = "
    select coalesce(json_agg(json_build_object(
        'name', v.name,
        'version', v.version,
        'build', v.build,
        'key', v.key_column,
        'schema', n.nspname,
        'table', c.relname,
        'columns', (
            select coalesce(json_agg(json_build_object(
                'name', a.attname,
                'type', format_type(a.atttypid, a.atttypmod),
                'base', case when t.typnamespace = 'pg_catalog'::regnamespace then t.typname end,
                'nullable', not a.attnotnull
            ) order by a.attnum), '[]')
            from pg_attribute a
            join pg_type t on t.oid = a.atttypid
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'indexes', (
            select coalesce(json_agg(json_build_object(
                'columns', k.columns,
                'unique', i.indisunique and i.indimmediate
            ) order by i.indisprimary desc, i.indexrelid::regclass::text), '[]')
            from pg_index i
            join pg_class ic on ic.oid = i.indexrelid
            join pg_am am on am.oid = ic.relam
            cross join lateral (
                select json_agg(a.attname order by part.place) as columns,
                       bool_and(part.option = 0 and o.opcdefault and part.collated = a.attcollation) as plain
                from unnest(i.indkey::int2[], i.indoption::int2[], i.indclass::oid[], i.indcollation::oid[])
                     with ordinality as part (attnum, option, opclass, collated, place)
                join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
                join pg_opclass o on o.oid = part.opclass
                where part.place <= i.indnkeyatts
            ) k
            where i.indrelid = c.oid and am.amname = 'btree' and k.plain
              and i.indisvalid and i.indisready and i.indislive
              and i.indpred is null and i.indexprs is null
        )
    )), '[]')::text
    from (select * from views order by name limit $1) v
    left join pg_class c on c.oid = to_regclass(quote_ident(v.table_name))
    left join pg_namespace n on n.oid = c.relnamespace";

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the database has no registry of views yet; its migrations have not run")]
    NotMigrated,
    #[error("the registry names no view that can be served")]
    NoViews,
    #[error("the catalog cannot be read")]
    Database(#[from] sqlx::Error),
    #[error("the description of the views cannot be understood")]
    Format(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct ViewRow {
    name: String,
    version: i32,
    build: i32,
    key: String,
    schema: Option<String>,
    table: Option<String>,
    columns: Vec<ColumnRow>,
    indexes: Vec<IndexRow>,
}

#[derive(Deserialize)]
struct ColumnRow {
    name: String,
    r#type: String,
    base: Option<String>,
    nullable: bool,
}

#[derive(Deserialize)]
struct IndexRow {
    columns: Vec<String>,
    unique: bool,
}

/// Reads the whole catalog in one statement. A view that cannot be served is left out, and said so in the log.
pub async fn load(connection: &mut PgConnection) -> Result<Catalog, LoadError> {
    let description: String =
        sqlx::query_scalar(CATALOG).bind(VIEWS_MAX).fetch_one(connection).await.map_err(not_migrated)?;
    let rows: Vec<ViewRow> = serde_json::from_str(&description)?;
    let views: BTreeMap<Arc<str>, Arc<View>> =
        rows.into_iter().filter_map(view).map(|view| (view.name.clone(), Arc::new(view))).collect();
    if views.is_empty() { Err(LoadError::NoViews) } else { Ok(Catalog { views }) }
}

fn not_migrated(error: sqlx::Error) -> LoadError {
    const UNDEFINED_TABLE: &str = "42P01";
    match error.as_database_error().and_then(|error| error.code()) {
        Some(code) if code == UNDEFINED_TABLE => LoadError::NotMigrated,
        _ => LoadError::Database(error),
    }
}

fn view(row: ViewRow) -> Option<View> {
    let (Some(schema), Some(table)) = (row.schema, row.table) else {
        tracing::warn!(view = row.name, "not served: its table does not exist");
        return None;
    };
    let columns: Vec<Column> = row.columns.into_iter().map(column).collect();
    let indexes: Vec<Index> = row.indexes.iter().filter_map(|index| self::index(index, &columns)).collect();
    match shapes(&columns, &row.key, &indexes) {
        Ok((key, shapes)) => {
            let (name, version, build) = (row.name.into(), row.version, row.build);
            Some(View { name, version, build, schema, table, columns, key, shapes })
        }
        Err(reason) => {
            tracing::warn!(view = row.name, %reason, "not served");
            None
        }
    }
}

fn column(row: ColumnRow) -> Column {
    let kind = row.base.as_deref().and_then(Kind::of_type);
    Column { name: row.name, type_name: row.r#type, kind, nullable: row.nullable }
}

fn index(row: &IndexRow, columns: &[Column]) -> Option<Index> {
    let place = |name: &String| columns.iter().position(|column| column.name == *name);
    let columns = row.columns.iter().map(place).collect::<Option<_>>()?;
    Some(Index { columns, unique: row.unique })
}
