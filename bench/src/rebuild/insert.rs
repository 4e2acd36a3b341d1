//! Postgres's write limit: the rows that a view has in the end, written into its empty table by inserts of many rows
//! each, and nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Encode, Executor as _, PgConnection, Postgres, Row as _,
    SqlSafeStr as _, Type,
};
use tokio::time::Instant;

use super::INSERT;
use super::arena::{Arena, Own};
use crate::processes::ProcessorTime;
use crate::report::Pass;

const ROWS_PER_INSERT: u32 = 10_000;

/// Takes the rows of `view` out of the database as it is, and writes them into a new one.
pub async fn pass(arena: &mut Arena, view: &'static str) -> Result<Pass> {
    let rows = Rows::read(&mut arena.databases.connect().await?, view).await;
    let rows = rows.with_context(|| format!("cannot read the rows of {view}"))?;
    arena.databases.renew().await?;
    let mut connection = arena.databases.connect().await?;
    rows.prepare(&mut connection).await?;
    let us = std::process::id();
    let (meter, before) = (arena.meter()?, ProcessorTime::of(us)?);
    let elapsed = rows.write(&mut connection).await?;
    let processor = (ProcessorTime::of(us)? - before).total();
    meter.pass(INSERT, view, Own { elapsed, processor, peak_mb: None })
}

/// All rows of a view.
struct Rows {
    insert: String,
    /// The arguments of each insert: an array for each column, as it goes over the wire.
    batches: Vec<PgArguments>,
    count: u64,
}

impl Rows {
    /// In the order of their keys, which is the cheapest to write.
    async fn read(connection: &mut PgConnection, view: &str) -> Result<Self> {
        // They are read from the table of the build in use, and written to that of the first one.
        let (table, first, key): (String, String, String) = sqlx::query_as(
            "select quote_ident(v.table_name), quote_ident(b.table_name), quote_ident(v.key_column)
             from views v join builds b on b.view = v.name and b.build = 1 where v.name = $1",
        )
        .bind(view)
        .fetch_one(&mut *connection)
        .await?;
        let columns: Vec<(String, String)> = sqlx::query_as(
            "select quote_ident(attname), format_type(atttypid, atttypmod) from pg_attribute
             where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum",
        )
        .bind(&table)
        .fetch_all(&mut *connection)
        .await?;
        let batches = sqlx::query(AssertSqlSafe(select(&table, &key, &columns)))
            .fetch_all(&mut *connection)
            .await?
            .iter()
            .map(arguments)
            .collect::<Result<Vec<_>>>()?;
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(connection)
            .await?;
        ensure!(!batches.is_empty(), "there are none");
        Ok(Self { insert: insert(&first, &columns), batches, count: count.cast_unsigned() })
    }

    async fn prepare(&self, connection: &mut PgConnection) -> Result<()> {
        connection.prepare(AssertSqlSafe(self.insert.as_str()).into_sql_str()).await?;
        Ok(())
    }

    /// Each insert is a transaction.
    async fn write(self, connection: &mut PgConnection) -> Result<Duration> {
        let started = Instant::now();
        let mut written = 0;
        for batch in self.batches {
            let insert = sqlx::query_with(AssertSqlSafe(self.insert.as_str()), batch);
            written += insert.execute(&mut *connection).await?.rows_affected();
        }
        let elapsed = started.elapsed();
        ensure!(written == self.count, "{written} rows were written, of {}", self.count);
        Ok(elapsed)
    }
}

/// Gives an array for each column, and a row for each batch.
fn select(table: &str, key: &str, columns: &[(String, String)]) -> String {
    let arrays: Vec<String> = columns.iter().map(|(name, _)| format!("array_agg(r.{name})")).collect();
    format!(
        "select {} from (
             select *, (row_number() over (order by {key}) - 1) / {ROWS_PER_INSERT} as \"#batch\" from {table}
         ) as r group by \"#batch\" order by \"#batch\"",
        arrays.join(", ")
    )
}

fn insert(table: &str, columns: &[(String, String)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let arrays: Vec<String> =
        (1..).zip(columns).map(|(number, (_, type_name))| format!("${number}::{type_name}[]")).collect();
    format!("insert into {table} ({}) select * from unnest({})", names.join(", "), arrays.join(", "))
}

/// What was read, to be sent back.
fn arguments(row: &PgRow) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for column in row.columns() {
        let value = row.try_get_raw(column.ordinal())?;
        ensure!(value.format() == PgValueFormat::Binary, "{} came as text", column.name());
        let bytes = value.as_bytes().map_err(|error| anyhow!(error))?;
        arguments
            .add(Array { type_info: column.type_info().clone(), bytes })
            .map_err(|error| anyhow!(error))?;
    }
    Ok(arguments)
}

/// An array of any type in Postgres's own binary form.
struct Array<'r> {
    type_info: PgTypeInfo,
    bytes: &'r [u8],
}

impl Type<Postgres> for Array<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("anyarray")
    }
}

impl Encode<'_, Postgres> for Array<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.type_info.clone())
    }

    fn size_hint(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_inserted_from_one_array_a_column() {
        let columns = [("id", "uuid"), ("\"order\"", "timestamp with time zone")];
        let columns = columns.map(|(name, type_name)| (name.to_owned(), type_name.to_owned()));
        assert_eq!(
            insert("orders", &columns),
            "insert into orders (id, \"order\") select * from unnest($1::uuid[], $2::timestamp with time zone[])"
        );
    }
}
