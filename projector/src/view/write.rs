//! The statements by which a build's rows and checkpoint are written.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use domain::{
    Recorded,
    view::{Encoded, Fold, Lines, Touch},
};
use event_log::Checkpoint;
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};

use super::{
    database::{ANSWER_TIMEOUT, within},
    error::{ViewError, chain, panic_message},
    table::Table,
};
use crate::quarantine::{self, Poison};

/// So many rows go into one statement: it is one, unless a view is far behind.
const ROWS_PER_STATEMENT: usize = 10_000;
/// So many new rows are worth a `copy`, which takes three round trips and is parsed each time.
const ROWS_COPIED_MIN: usize = 100;

/// What one transaction writes, made up in full before it begins.
pub struct Writes {
    pub table: Arc<Table>,
    pub checkpoint: Move,
    rows: Vec<Encoded>,
    poisons: Vec<Poison>,
    counted: Vec<(String, u64)>,
}

/// A step of a build's checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    pub view: &'static str,
    pub build: i32,
    /// The build must be the one in use.
    pub must_be_in_use: bool,
    pub from: Checkpoint,
    pub to: Checkpoint,
}

impl Writes {
    /// Of the rows with these keys, and what was put into quarantine and held back.
    pub fn of(
        table: Arc<Table>,
        checkpoint: Move,
        fold: &dyn Fold,
        changed: &[String],
        poisons: Vec<Poison>,
        counted: Vec<(String, u64)>,
    ) -> Result<Self, ViewError> {
        let rows = changed.chunks(ROWS_PER_STATEMENT).map(|keys| encode(&table, fold, keys));
        let rows = rows.collect::<Result<_, ViewError>>()?;
        Ok(Self { table, checkpoint, rows, poisons, counted })
    }

    /// All or nothing.
    pub async fn commit(&self, connection: &mut PgConnection) -> Result<(), ViewError> {
        if self.rows.is_empty() && self.poisons.is_empty() && self.counted.is_empty() {
            return self.checkpoint.run(connection).await;
        }
        let mut transaction = begin(connection).await?;
        // First, because it locks: a projector that lost the view waits here for the one that has it, and
        // leaves before it has touched a row.
        self.checkpoint.run(&mut transaction).await?;
        for rows in &self.rows {
            write_rows(&mut transaction, &self.table, rows).await?;
        }
        let Move { view, build, .. } = self.checkpoint;
        for poison in &self.poisons {
            within(ANSWER_TIMEOUT, quarantine::put(&mut transaction, view, build, poison)).await?;
        }
        within(ANSWER_TIMEOUT, quarantine::count(&mut transaction, view, build, &self.counted)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await
    }

    /// What is put into quarantine by it.
    pub fn poisons(&self) -> &[Poison] {
        &self.poisons
    }
}

pub async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, ViewError> {
    within(ANSWER_TIMEOUT, connection.begin()).await
}

impl Move {
    /// Moves the checkpoint, if it is where this projector left it.
    pub async fn run(self, connection: &mut PgConnection) -> Result<(), ViewError> {
        let Self { view, build, must_be_in_use, from, to } = self;
        let moved = sqlx::query(
            "update checkpoints c
             set position = $1, frame_sequence = $2, frame_id = $3::text::uuid, updated_at = now()
             where c.view = $4 and c.build = $5 and c.position = $6 and c.frame_sequence = $7
               and c.frame_id is not distinct from $8::text::uuid
               and (not $9 or exists (select from views v where v.name = c.view and v.build = c.build))",
        )
        .bind(to.position.cast_signed())
        .bind(to.frame_sequence.cast_signed())
        .bind(to.frame_id.map(|id| id.to_string()))
        .bind(view)
        .bind(build)
        .bind(from.position.cast_signed())
        .bind(from.frame_sequence.cast_signed())
        .bind(from.frame_id.map(|id| id.to_string()))
        .bind(must_be_in_use);
        let moved = within(ANSWER_TIMEOUT, moved.execute(connection)).await?;
        if moved.rows_affected() == 1 { Ok(()) } else { Err(ViewError::Fenced) }
    }
}

fn encode(table: &Table, fold: &dyn Fold, keys: &[String]) -> Result<Encoded, ViewError> {
    let encoded = fold.encode(keys, keys.len() >= ROWS_COPIED_MIN).map_err(ViewError::NewRow)?;
    if encoded.new.count > 0 {
        table.check_fields(encoded.new.columns.iter().copied())?;
    }
    if encoded.count > 0 {
        let row = first_row(&encoded.rows).map_err(ViewError::NewRow)?;
        table.check_fields(row.keys().map(String::as_str))?;
    }
    Ok(encoded)
}

/// Writes what became of the rows with these keys.
pub async fn rows(
    connection: &mut PgConnection,
    table: &Table,
    fold: &dyn Fold,
    keys: &[String],
) -> Result<(), ViewError> {
    write_rows(connection, table, &encode(table, fold, keys)?).await
}

async fn write_rows(connection: &mut PgConnection, table: &Table, rows: &Encoded) -> Result<(), ViewError> {
    if rows.new.count > 0 {
        let copied = within(ANSWER_TIMEOUT, copy(connection, table, &rows.new)).await?;
        expect(table, "copied", copied, rows.new.count)?;
    }
    if rows.count > 0 {
        let upsert = sqlx::query(AssertSqlSafe(table.statements.upsert.as_str())).bind(&rows.rows);
        let written = within(ANSWER_TIMEOUT, upsert.execute(&mut *connection)).await?;
        expect(table, "written", written.rows_affected(), rows.count)?;
    }
    if !rows.gone.is_empty() {
        let delete = sqlx::query(AssertSqlSafe(table.statements.delete.as_str())).bind(&rows.gone);
        let deleted = within(ANSWER_TIMEOUT, delete.execute(&mut *connection)).await?;
        expect(table, "deleted", deleted.rows_affected(), rows.gone.len())?;
    }
    Ok(())
}

async fn copy(connection: &mut PgConnection, table: &Table, lines: &Lines) -> Result<u64, sqlx::Error> {
    let mut copy = connection.copy_in_raw(&table.statements.copy(&lines.columns)).await?;
    if let Err(error) = copy.send(lines.text.as_bytes()).await {
        // Says why it failed, if that was Postgres.
        copy.abort("interrupted").await?;
        return Err(error);
    }
    copy.finish().await
}

/// The first object of a JSON array that is not empty.
fn first_row(rows: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let inside = rows.get(1..).unwrap_or_default();
    // What comes after the first object is not looked at.
    Map::deserialize(&mut serde_json::Deserializer::from_str(inside))
}

fn expect(table: &Table, done: &'static str, written: u64, expected: usize) -> Result<(), ViewError> {
    let expected = expected as u64;
    if written == expected {
        return Ok(());
    }
    Err(ViewError::RowCount { table: table.name.clone(), done, written, expected })
}

/// The keys of the rows that an event touches, as they stand in the table.
pub async fn touched(
    connection: &mut PgConnection,
    table: &Table,
    touch: &Touch,
) -> Result<Vec<String>, ViewError> {
    match touch {
        Touch::Nothing => Ok(Vec::new()),
        Touch::Row(key) => Ok(vec![key.clone()]),
        Touch::Rows { column, value } => {
            let select = AssertSqlSafe(table.select_by(column)?);
            let rows: Vec<(String, String)> =
                sqlx::query_as(select).bind(vec![value]).bind(i64::MAX).fetch_all(connection).await?;
            Ok(rows.into_iter().map(|(key, _)| key).collect())
        }
    }
}

/// Applies one event to one row. The inner error is the event's fault, and has changed nothing.
pub async fn apply_singly(
    transaction: &mut Transaction<'_, Postgres>,
    table: &Table,
    mut fold: Box<dyn Fold>,
    key: &str,
    recorded: &Recorded,
) -> Result<Result<(), String>, ViewError> {
    let mut savepoint = within(ANSWER_TIMEOUT, transaction.begin()).await?;
    let applied = async {
        let select = sqlx::query_as(AssertSqlSafe(table.statements.select.as_str())).bind(vec![key]);
        let row: Option<(String, String)> =
            within(ANSWER_TIMEOUT, select.fetch_optional(&mut *savepoint)).await?;
        let row = row.map(|(_, row)| row);
        fold.load(key.to_owned(), row.as_deref())
            .map_err(|source| ViewError::StoredRow { key: key.to_owned(), source })?;
        catch_unwind(AssertUnwindSafe(|| fold.apply_to(key, recorded)))
            .map_err(|panic| ViewError::Apply(panic_message(panic.as_ref())))?;
        rows(&mut savepoint, table, fold.as_ref(), &[key.to_owned()]).await
    };
    match applied.await {
        Ok(()) => {
            within(ANSWER_TIMEOUT, savepoint.commit()).await?;
            Ok(Ok(()))
        }
        Err(error) if error.may_be_poison() => {
            within(ANSWER_TIMEOUT, savepoint.rollback()).await?;
            Ok(Err(chain(error)))
        }
        Err(error) => Err(error),
    }
}
