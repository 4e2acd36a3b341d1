//! From taking a view over until something goes wrong: one session with Postgres, one reader of the log.

use std::time::Duration;

use async_nats::connection::State;
use domain::view::Change as RowChange;
use service_kit::Shutdown;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::{
    Task,
    batch::Batch,
    commit::commit,
    database::{self, ANSWER_TIMEOUT, Stored, within},
    error::ViewError,
    reader::Reader,
    table::Table,
};
use crate::{
    migrations,
    signal::{Change, Signaller},
};

/// A client that has just started, or lost its server, has this long to connect before that is news.
const CONNECTED_LOOKS: u32 = 25;
const CONNECTED_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a standby tries to take over.
const STANDBY_RETRY: Duration = Duration::from_millis(500);
/// How often a session with nothing to do makes sure that it still has the view.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Folds the view until `shutdown`, or until something goes wrong.
pub async fn run(task: &Task, shutdown: &Shutdown) -> Result<(), ViewError> {
    connected(task).await?;
    let mut connection = database::connect(&task.options, task.definition.name).await?;
    let pending = within(ANSWER_TIMEOUT, migrations::pending(&mut connection)).await?;
    if !pending.is_empty() {
        return Err(ViewError::NotMigrated(pending));
    }
    let taken_over = shutdown.run_until_cancelled(take_over(task, &mut connection)).await;
    if let Some(stored) = taken_over.transpose()? {
        let table = within(ANSWER_TIMEOUT, Table::load(&mut connection, task.definition)).await?;
        let reader = Reader::start(&task.log, stored.checkpoint, task.definition);
        Session { task, connection: &mut connection, table, stored, reader }.fold(shutdown).await?;
    }
    // Says goodbye, so that a standby need not wait until the server notices.
    let _ = within(ANSWER_TIMEOUT, connection.close()).await;
    Ok(())
}

/// Waits for NATS, but not for ever: a client without a server keeps what it is told to send, so nothing is
/// asked of the log before there is one.
async fn connected(task: &Task) -> Result<(), ViewError> {
    for _ in 0..CONNECTED_LOOKS {
        if task.client.connection_state() == State::Connected {
            return Ok(());
        }
        sleep(CONNECTED_LOOK_EVERY).await;
    }
    Err(ViewError::NatsAway)
}

/// Waits until no other projector has the view.
async fn take_over(task: &Task, connection: &mut PgConnection) -> Result<Stored, ViewError> {
    let view = task.definition.name;
    loop {
        let is_ours = within(ANSWER_TIMEOUT, database::try_lock(connection, view)).await?;
        // Read after the lock was taken: nobody else moves it any more.
        let stored = within(ANSWER_TIMEOUT, database::stored(connection, view)).await?;
        if is_ours {
            return Ok(stored);
        }
        task.status.standby(stored.checkpoint.position);
        sleep(STANDBY_RETRY).await;
    }
}

struct Session<'a> {
    task: &'a Task,
    connection: &'a mut PgConnection,
    table: Table,
    /// What the database says of the view, as far as this session knows.
    stored: Stored,
    reader: Reader,
}

impl Session<'_> {
    async fn fold(mut self, shutdown: &Shutdown) -> Result<(), ViewError> {
        // It comes once the checkpoint was found in the log.
        let Some(first) = shutdown.run_until_cancelled(self.reader.next()).await.transpose()? else {
            return Ok(());
        };
        // The view is active once a batch is committed: one that fails at its first batch, again and again,
        // does not look well in between. The reset covers what changed in it.
        self.commit(&first).await?;
        drop(first);
        let position = self.stored.checkpoint.position;
        self.task.status.active(position);
        let Task { client, log, definition, .. } = self.task;
        let signaller = Signaller::new(client.clone(), log.namespace(), definition.name, position);
        signaller.reset().await;
        tokio::select! {
            result = self.fold_on(&signaller, shutdown) => result,
            never = signaller.beat() => match never {},
        }
    }

    async fn fold_on(&mut self, signaller: &Signaller, shutdown: &Shutdown) -> Result<(), ViewError> {
        loop {
            let batch = tokio::select! {
                // A transaction under way is finished first: this is asked between two of them.
                biased;
                () = shutdown.cancelled() => return Ok(()),
                batch = self.reader.next() => batch?,
                () = sleep(IDLE_CHECK) => {
                    self.check().await?;
                    continue;
                }
            };
            let rows = self.commit(&batch).await?;
            let changes = rows.iter().map(|row| Change::of(row, &self.table.indexed)).collect();
            signaller.changed(batch.end.position, changes).await;
        }
    }

    /// Returns the rows that changed.
    async fn commit(&mut self, batch: &Batch) -> Result<Vec<RowChange>, ViewError> {
        let from = self.stored.checkpoint;
        if batch.end == from {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let work = commit(self.connection, self.task.definition, &self.table, from, batch);
        let rows = within(ANSWER_TIMEOUT, work).await?;
        self.stored.checkpoint = batch.end;
        self.task.status.committed(batch.end.position, batch.read, started.elapsed());
        Ok(rows)
    }

    /// Notices a lost session, a fence, or a switch to another version while there is nothing to commit.
    async fn check(&mut self) -> Result<(), ViewError> {
        let stored =
            within(ANSWER_TIMEOUT, database::stored(self.connection, self.task.definition.name)).await?;
        if stored == self.stored { Ok(()) } else { Err(ViewError::Fenced) }
    }
}
