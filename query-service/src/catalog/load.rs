//! Reads the catalog from the registry `views` and from Postgres's own description of the tables.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    Catalog, Column, ColumnId, Function, Index, IndexColumn, Kind, Only, View, owner::owner_column,
    predicate, shapes,
};

/// More views than this are a mistake in the registry, not a catalog.
const VIEWS_MAX: i64 = 1_000;

/// Only what a query can rely on counts as an index: a btree in working order, of the types' own operators. Of
/// collations, that of the column itself and "C" can be asked by; a column whose collation takes different
/// texts for equal cannot be asked by at all.
const CATALOG: &str = "
    select coalesce(json_agg(json_build_object(
        'name', v.name,
        'version', v.version,
        'build', v.build,
        'key', v.key_column,
        -- Read in this way, it may be missing: the migration that adds it may come after this program.
        'owner', to_json(v)->>'owner_column',
        'schema', n.nspname,
        'table', c.relname,
        'columns', (
            select coalesce(json_agg(json_build_object(
                'name', a.attname,
                'quoted', quote_ident(a.attname),
                'type', format_type(a.atttypid, a.atttypmod),
                'base', case when t.typnamespace = 'pg_catalog'::regnamespace
                              and coalesce(o.collisdeterministic, true) then t.typname end,
                'nullable', not a.attnotnull
            ) order by a.attnum), '[]')
            from pg_attribute a
            join pg_type t on t.oid = a.atttypid
            left join pg_collation o on o.oid = a.attcollation
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'indexes', (
            select coalesce(json_agg(json_build_object(
                'columns', k.columns,
                'included', coalesce(k.included, '[]'),
                'predicate', pg_get_expr(i.indpred, i.indrelid),
                'unique', i.indisunique and i.indimmediate
            ) order by i.indisprimary desc, i.indexrelid::regclass::text), '[]')
            from pg_index i
            join pg_class ic on ic.oid = i.indexrelid
            join pg_am am on am.oid = ic.relam
            cross join lateral (
                select json_agg(json_build_object(
                           'column', a.attname,
                           'expression', case when part.attnum = 0
                               then pg_get_indexdef(i.indexrelid, part.place::integer, false) end,
                           'descending', (part.option & 1) = 1,
                           'nulls_first', (part.option & 2) = 2,
                           'collate_c', part.collated is distinct from coalesce(a.attcollation, def.oid),
                           'in_byte_order', coalesce(part.collated in (select oid from byte_orders), false)
                       ) order by part.place) filter (where part.place <= i.indnkeyatts) as columns,
                       json_agg(a.attname order by part.place)
                           filter (where part.place > i.indnkeyatts) as included,
                       bool_and(part.place > i.indnkeyatts or o.opcdefault and (
                           part.collated = 0 or part.collated = coalesce(a.attcollation, def.oid)
                           or a.attnum is not null and part.collated = c_collation.oid
                       )) as usable
                from unnest(i.indkey::int2[], i.indoption::int2[], i.indclass::oid[], i.indcollation::oid[])
                     with ordinality as part (attnum, option, opclass, collated, place)
                left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
                left join pg_opclass o on o.oid = part.opclass
                cross join (select 'pg_catalog.\"default\"'::regcollation::oid as oid) def
                cross join (select 'pg_catalog.\"C\"'::regcollation::oid as oid) c_collation
            ) k
            where i.indrelid = c.oid and am.amname = 'btree' and k.usable
              and i.indisvalid and i.indisready and i.indislive
        )
    )), '[]')::text
    from (select * from views order by name limit $1) v
    left join pg_class c on c.oid = to_regclass(quote_ident(v.table_name))
    left join pg_namespace n on n.oid = c.relnamespace";

/// Collations under which the order of texts is that of their bytes in UTF-8.
const BYTE_ORDERS: &str = "
    with byte_orders as (
        select o.oid from pg_collation o, pg_database d
        where d.datname = current_database() and getdatabaseencoding() = 'UTF8' and case o.collprovider
            when 'b' then true
            when 'c' then o.collcollate in ('C', 'POSIX')
            when 'd' then d.datlocprovider = 'b' or d.datlocprovider = 'c' and d.datcollate in ('C', 'POSIX')
            else false
        end
    )";

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
    owner: Option<String>,
    schema: Option<String>,
    table: Option<String>,
    columns: Vec<ColumnRow>,
    indexes: Vec<IndexRow>,
}

#[derive(Deserialize)]
struct ColumnRow {
    name: String,
    /// As Postgres writes it in expressions.
    quoted: String,
    r#type: String,
    base: Option<String>,
    nullable: bool,
}

#[derive(Deserialize)]
struct IndexRow {
    columns: Vec<IndexColumnRow>,
    included: Vec<String>,
    predicate: Option<String>,
    unique: bool,
}

#[derive(Deserialize)]
struct IndexColumnRow {
    column: Option<String>,
    expression: Option<String>,
    descending: bool,
    nulls_first: bool,
    collate_c: bool,
    in_byte_order: bool,
}

/// Reads the whole catalog in one statement. A view that cannot be served is left out, and said so in the log.
pub async fn load(connection: &mut PgConnection) -> Result<Catalog, LoadError> {
    let statement = AssertSqlSafe(format!("{BYTE_ORDERS} {CATALOG}"));
    let description: String =
        sqlx::query_scalar(statement).bind(VIEWS_MAX).fetch_one(connection).await.map_err(not_migrated)?;
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
    let (columns, quoted): (Vec<Column>, Vec<String>) = row.columns.into_iter().map(column).unzip();
    let indexes: Vec<Index> =
        row.indexes.iter().filter_map(|index| self::index(index, &columns, &quoted)).collect();
    let owner = row.owner.map(|name| owner_column(&columns, &name)).transpose();
    match owner.and_then(|owner| Ok((owner, shapes(&columns, &row.key, &indexes)?))) {
        Ok((owner, (key, shapes))) => {
            let shapes = shapes.into_iter().map(Arc::new).collect();
            let (name, version, build) = (row.name.into(), row.version, row.build);
            Some(View { name, version, build, schema, table, columns, key, owner, shapes })
        }
        Err(reason) => {
            tracing::warn!(view = row.name, %reason, "not served");
            None
        }
    }
}

fn column(row: ColumnRow) -> (Column, String) {
    let kind = row.base.as_deref().and_then(Kind::of_type);
    (Column { name: row.name, type_name: row.r#type, kind, nullable: row.nullable }, row.quoted)
}

/// `None`: it says something that is not understood here.
fn index(row: &IndexRow, columns: &[Column], quoted: &[String]) -> Option<Index> {
    let place = |name: &String| columns.iter().position(|column| column.name == *name);
    let only = match &row.predicate {
        Some(text) => predicate::parse(text, columns, quoted)?,
        None => Only::default(),
    };
    Some(Index {
        columns: row.columns.iter().map(|part| index_column(part, columns, quoted)).collect::<Option<_>>()?,
        included: row.included.iter().map(place).collect::<Option<_>>()?,
        unique: row.unique,
        only,
    })
}

fn index_column(row: &IndexColumnRow, columns: &[Column], quoted: &[String]) -> Option<IndexColumn> {
    let (function, column) = match (&row.column, &row.expression) {
        (Some(name), _) => (None, columns.iter().position(|column| column.name == *name)?),
        (None, expression) => {
            let (function, column) = function_of(expression.as_deref()?, columns, quoted)?;
            (Some(function), column)
        }
    };
    let (descending, nulls_first) = (row.descending, row.nulls_first);
    let (collate_c, in_byte_order) = (row.collate_c, row.in_byte_order);
    Some(IndexColumn { column, function, descending, nulls_first, collate_c, in_byte_order })
}

/// An expression that is a known function of a column of text, as Postgres writes it: `lower(email)`.
fn function_of(expression: &str, columns: &[Column], quoted: &[String]) -> Option<(Function, ColumnId)> {
    Function::ALL.into_iter().find_map(|function| {
        let argument = expression.strip_prefix(function.name())?.strip_prefix('(')?.strip_suffix(')')?;
        let is_argument = |name: &String| argument == name || argument == format!("({name})::text");
        let column = quoted.iter().position(is_argument)?;
        (columns[column].kind == Some(Kind::Text)).then_some((function, column))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), type_name: name.into(), kind: Some(kind), nullable: true }
    }

    fn function(expression: &str) -> Option<(Function, ColumnId)> {
        let columns = [column("n", Kind::Integer), column("email", Kind::Text), column("Name", Kind::Text)];
        function_of(expression, &columns, &["n".into(), "email".into(), "\"Name\"".into()])
    }

    #[test]
    fn a_known_function_of_a_text_is_understood_and_no_other_expression() {
        assert_eq!(function("lower(email)"), Some((Function::Lower, 1)));
        assert_eq!(function("upper((email)::text)"), Some((Function::Upper, 1)));
        assert_eq!(function("lower(\"Name\")"), Some((Function::Lower, 2)));
        for other in [
            "email",
            "lower(n)",
            "lower(Name)",
            "length(email)",
            "lower(email, n)",
            "lower(lower(email))",
            "lower(email) || 'x'::text",
            "lower(email || ')'::text)",
            "public.lower(email)",
        ] {
            assert_eq!(function(other), None, "{other}");
        }
    }
}
