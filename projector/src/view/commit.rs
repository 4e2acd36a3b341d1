//! One batch, one transaction: the rows and the checkpoint move together or not at all.

use domain::view::{Change, Definition, Fold};
use event_log::Checkpoint;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{batch::Batch, error::ViewError, table::Table};

/// Folds `batch` into the view, which is at `from`, and returns the rows that changed.
pub async fn commit(
    connection: &mut PgConnection,
    definition: &Definition,
    table: &Table,
    from: Checkpoint,
    batch: &Batch,
) -> Result<Vec<Change>, ViewError> {
    if batch.keys.is_empty() {
        move_checkpoint(connection, definition.name, from, batch.end).await?;
        return Ok(Vec::new());
    }
    let mut transaction = connection.begin().await?;
    // First, because it locks: a projector that lost the view waits here for the one that has it, and
    // leaves before it has touched a row.
    move_checkpoint(&mut transaction, definition.name, from, batch.end).await?;
    let mut fold = (definition.fold)();
    load(&mut transaction, table, batch, fold.as_mut()).await?;
    batch.events.iter().for_each(|recorded| fold.apply(recorded));
    let changes = fold.changes().map_err(ViewError::NewRow)?;
    write(&mut transaction, table, &changes).await?;
    transaction.commit().await?;
    Ok(changes)
}

/// Moves the checkpoint, if it is where this projector left it.
async fn move_checkpoint(
    connection: &mut PgConnection,
    view: &str,
    from: Checkpoint,
    to: Checkpoint,
) -> Result<(), ViewError> {
    let moved = sqlx::query(
        "update checkpoints
         set position = $1, frame_sequence = $2, frame_id = $3::text::uuid, updated_at = now()
         where view = $4 and position = $5 and frame_sequence = $6
           and frame_id is not distinct from $7::text::uuid",
    )
    .bind(to.position.cast_signed())
    .bind(to.frame_sequence.cast_signed())
    .bind(to.frame_id.map(|id| id.to_string()))
    .bind(view)
    .bind(from.position.cast_signed())
    .bind(from.frame_sequence.cast_signed())
    .bind(from.frame_id.map(|id| id.to_string()))
    .execute(connection)
    .await?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(ViewError::Fenced) }
}

/// Makes the rows known that the batch touches.
async fn load(
    connection: &mut PgConnection,
    table: &Table,
    batch: &Batch,
    fold: &mut dyn Fold,
) -> Result<(), ViewError> {
    let keys: Vec<&str> = batch.keys.iter().map(String::as_str).collect();
    // Safe: the text holds quoted names of the catalog, and binds its values.
    let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(table.statements.select.as_str()))
        .bind(keys)
        .fetch_all(connection)
        .await?;
    for (key, row) in rows {
        if !batch.keys.contains(&key) {
            let problem = format!("Postgres writes a key of {} as {key}, its view differently", table.name);
            return Err(ViewError::Registry(problem));
        }
        fold.load(key.clone(), &row).map_err(|source| ViewError::StoredRow { key, source })?;
    }
    Ok(())
}

/// Writes what changed: rows in one statement, vanished rows in one more.
async fn write(connection: &mut PgConnection, table: &Table, changes: &[Change]) -> Result<(), ViewError> {
    let rows: Vec<&Value> = changes.iter().filter_map(|change| change.after.as_ref()).collect();
    let gone: Vec<&str> =
        changes.iter().filter(|change| change.after.is_none()).map(|change| change.key.as_str()).collect();
    if let Some(row) = rows.first() {
        table.check_fields(row.as_object().unwrap_or(&serde_json::Map::new()))?;
        let json = serde_json::to_string(&rows).map_err(ViewError::NewRow)?;
        let upsert = sqlx::query(AssertSqlSafe(table.statements.upsert.as_str()));
        let written = upsert.bind(json).execute(&mut *connection).await?.rows_affected();
        expect(table, "written", written, rows.len())?;
    }
    if !gone.is_empty() {
        let delete = sqlx::query(AssertSqlSafe(table.statements.delete.as_str()));
        let deleted = delete.bind(&gone).execute(&mut *connection).await?.rows_affected();
        expect(table, "deleted", deleted, gone.len())?;
    }
    Ok(())
}

fn expect(table: &Table, done: &'static str, written: u64, expected: usize) -> Result<(), ViewError> {
    let expected = expected as u64;
    if written == expected {
        return Ok(());
    }
    Err(ViewError::RowCount { table: table.name.clone(), done, written, expected })
}
