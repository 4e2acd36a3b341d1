//! The statements by which a build's rows and checkpoint are written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use domain::{
    Recorded,
    view::{Fold, Touch},
};
use event_log::Checkpoint;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};

use super::{
    database::{ANSWER_TIMEOUT, within},
    error::{ViewError, chain, panic_message},
    folder::Folder,
    table::Table,
};

/// So many rows go into one statement: it is one, unless a view is far behind.
const ROWS_PER_STATEMENT: usize = 10_000;

pub async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, ViewError> {
    within(ANSWER_TIMEOUT, connection.begin()).await
}

/// Moves the checkpoint, if it is where this projector left it.
pub async fn move_checkpoint(
    connection: &mut PgConnection,
    folder: &Folder,
    to: Checkpoint,
) -> Result<(), ViewError> {
    let from = folder.stored;
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
    .bind(folder.definition.name)
    .bind(folder.build)
    .bind(from.position.cast_signed())
    .bind(from.frame_sequence.cast_signed())
    .bind(from.frame_id.map(|id| id.to_string()))
    .bind(folder.must_be_in_use);
    let moved = within(ANSWER_TIMEOUT, moved.execute(connection)).await?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(ViewError::Fenced) }
}

/// Writes what became of the rows with these keys.
pub async fn rows(
    connection: &mut PgConnection,
    table: &Table,
    fold: &dyn Fold,
    keys: &[String],
) -> Result<(), ViewError> {
    for keys in keys.chunks(ROWS_PER_STATEMENT) {
        let encoded = fold.encode(keys).map_err(ViewError::NewRow)?;
        if encoded.count > 0 {
            if let Some(row) = first_row(&encoded.rows).map_err(ViewError::NewRow)? {
                table.check_fields(&row)?;
            }
            let upsert = sqlx::query(AssertSqlSafe(table.statements.upsert.as_str())).bind(encoded.rows);
            let written = within(ANSWER_TIMEOUT, upsert.execute(&mut *connection)).await?;
            expect(table, "written", written.rows_affected(), encoded.count)?;
        }
        if !encoded.gone.is_empty() {
            let delete = sqlx::query(AssertSqlSafe(table.statements.delete.as_str())).bind(&encoded.gone);
            let deleted = within(ANSWER_TIMEOUT, delete.execute(&mut *connection)).await?;
            expect(table, "deleted", deleted.rows_affected(), encoded.gone.len())?;
        }
    }
    Ok(())
}

/// The first object of a JSON array.
fn first_row(rows: &str) -> Result<Option<Map<String, Value>>, serde_json::Error> {
    let inside = rows.get(1..).unwrap_or_default();
    serde_json::Deserializer::from_str(inside).into_iter().next().transpose()
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
