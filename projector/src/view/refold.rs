//! Folds keys in quarantine again, from the log: there is what was held back, in order, so nothing has to be
//! kept elsewhere, and it does not matter what else has happened to the rows since.
//!
//! The log is read beside the session, which goes on folding everything else; in the end, between two of its
//! transactions, the rest is read and the rows are written.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use domain::view::{Definition, Fold, Touch, aggregate_key};
use event_log::{Checkpoint, EventLog, FollowError, Target};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Task,
    batch::{Step, UnknownEvents, kind, step},
    database::{ANSWER_TIMEOUT, within},
    error::{ViewError, chain, panic_message},
    folder::{Committed, Folder},
    held::Held,
    write,
};
use crate::quarantine::{self, Poison, Request};

pub type Refolding = Option<AbortOnDropHandle<Result<Refold, ViewError>>>;

/// Begins with what was asked for first, if anything was.
pub async fn start(
    task: &Task,
    connection: &mut PgConnection,
    folder: &mut Folder,
) -> Result<Refolding, ViewError> {
    let (view, build) = (folder.definition.name, folder.build);
    let requests = within(ANSWER_TIMEOUT, quarantine::requests(connection, view, build)).await?;
    let Some((key, request)) = requests.into_iter().next() else { return Ok(None) };
    if let Request::Skip { reason } = &request {
        tracing::warn!(view, key, reason, "an event in quarantine is skipped for good");
        within(ANSWER_TIMEOUT, quarantine::skip(connection, view, build, &key)).await?;
        folder.held = within(ANSWER_TIMEOUT, Held::load(connection, view, build)).await?;
    }
    let refold = Refold::new(task, connection, folder, key).await?;
    let until = folder.stored.position;
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(refold.advanced(until)))))
}

/// Waits until the log has been read; for ever, if nothing was begun.
pub async fn done(refolding: &mut Refolding) -> Result<Refold, ViewError> {
    let Some(work) = refolding else { return std::future::pending().await };
    let result = work.await.unwrap_or_else(|error| Err(ViewError::Panicked(error.to_string())));
    *refolding = None;
    result
}

/// Rows that are being folded again.
pub struct Refold {
    log: EventLog,
    definition: &'static Definition,
    unknown: UnknownEvents,
    /// What put the key into quarantine.
    poison: Poison,
    /// What else is held back.
    held: Held,
    /// The row before the event, and the place in the log to go on from; without, rows are folded from the start.
    stored: Option<(Option<String>, Checkpoint)>,
    /// The rows, each with the event that it cannot take, if one was met.
    rows: BTreeMap<String, Option<Poison>>,
    /// The aggregate still cannot be read.
    unreadable: Option<Poison>,
    fold: Box<dyn Fold>,
    read: Checkpoint,
}

impl Refold {
    async fn new(
        task: &Task,
        connection: &mut PgConnection,
        folder: &Folder,
        key: String,
    ) -> Result<Self, ViewError> {
        let (definition, build) = (folder.definition, folder.build);
        let poison = quarantine::poison(connection, definition.name, build, key);
        let poison = within(ANSWER_TIMEOUT, poison).await?;
        let mut held = within(ANSWER_TIMEOUT, Held::load(connection, definition.name, build)).await?;
        held.release(&poison.key);
        let mut refold = Self {
            log: task.log.clone(),
            definition,
            unknown: task.unknown_events,
            poison,
            held,
            stored: None,
            rows: BTreeMap::new(),
            unreadable: None,
            fold: (definition.fold)(),
            read: Checkpoint::default(),
        };
        if !refold.poison.of_aggregate {
            refold.stored = refold.stored_row(connection, folder).await?;
            refold.rows.insert(refold.poison.key.clone(), None);
        }
        Ok(refold)
    }

    /// The row as it was before the event, if it can be read.
    async fn stored_row(
        &self,
        connection: &mut PgConnection,
        folder: &Folder,
    ) -> Result<Option<(Option<String>, Checkpoint)>, ViewError> {
        let select = AssertSqlSafe(folder.table.statements.select.as_str());
        let select = sqlx::query_as(select).bind(vec![self.poison.key.as_str()]);
        let row: Result<Option<(String, String)>, _> =
            within(ANSWER_TIMEOUT, select.fetch_optional(connection)).await;
        let row = match row {
            Ok(row) => row.map(|(_, row)| row),
            // What Postgres does not take for a key has no row.
            Err(error) if error.may_be_poison() => None,
            Err(error) => return Err(error),
        };
        if (self.definition.fold)().load(self.poison.key.clone(), row.as_deref()).is_err() {
            return Ok(None);
        }
        let place = self.log.seek(Target::Position(self.poison.position)).await;
        let place = place.map_err(|error| FollowError::Unavailable(error.to_string()))?;
        Ok(Some((row, place)))
    }

    /// Reads the log up to `position`.
    async fn advanced(mut self, position: u64) -> Result<Self, ViewError> {
        if self.poison.of_aggregate {
            self.find_rows(position).await?;
        }
        self.begin();
        self.advance(position).await?;
        Ok(self)
    }

    /// Which rows the events of the aggregate touch that were held back.
    async fn find_rows(&mut self, until: u64) -> Result<(), ViewError> {
        let place = self.log.seek(Target::Position(self.poison.position)).await;
        let mut place = place.map_err(|error| FollowError::Unavailable(error.to_string()))?;
        let mut rows = BTreeSet::new();
        let mut unreadable = None;
        read(&self.log, &mut place, until, |envelope| {
            let is_ours = aggregate_key(kind(envelope), envelope.subject) == self.poison.key;
            let (from, position) = (self.poison.position, envelope.position);
            if is_ours && position >= from && !self.held.left_out().skips(position, &self.poison.key) {
                match step(envelope, self.definition, self.unknown) {
                    None | Some(Step::Apply(_, Touch::Nothing)) => {}
                    Some(Step::Apply(_, Touch::Row(key))) => {
                        rows.insert(key);
                    }
                    Some(Step::Apply(recorded, Touch::Rows { column, .. })) => {
                        let error = format!(
                            "it touches rows by their {column}, which only a rebuild of the view can make up for"
                        );
                        let key = self.poison.key.clone();
                        unreadable = Some(Poison { of_aggregate: true, ..Poison::of_row(key, &recorded, error) });
                    }
                    Some(Step::Unreadable(found)) => unreadable = Some(found.as_ref().into()),
                }
            }
            unreadable.is_none()
        })
        .await?;
        self.unreadable = unreadable;
        // A row that is in quarantine itself stays there; its own release takes these events in.
        rows.retain(|key| !self.held.left_out().holds(key));
        self.rows = rows.into_iter().map(|key| (key, None)).collect();
        Ok(())
    }

    /// Back to where the rows start from.
    fn begin(&mut self) {
        self.fold = (self.definition.fold)();
        self.read = Checkpoint::default();
        if let Some((row, place)) = &self.stored {
            // It was read before.
            let _ = self.fold.load(self.poison.key.clone(), row.as_deref());
            self.read = *place;
        }
    }

    /// Folds the rows on. A row that meets an event which it cannot take is folded once more, up to that.
    async fn advance(&mut self, until: u64) -> Result<(), ViewError> {
        while let Some(poison) = self.advance_or_fail(until).await? {
            self.rows.insert(poison.key.clone(), Some(poison));
            self.begin();
        }
        Ok(())
    }

    async fn advance_or_fail(&mut self, until: u64) -> Result<Option<Poison>, ViewError> {
        if self.unreadable.is_some() || self.rows.is_empty() {
            return Ok(None);
        }
        let from = if self.stored.is_some() { self.poison.position } else { 0 };
        let (mut place, mut failed, log) = (self.read, None, self.log.clone());
        read(&log, &mut place, until, |envelope| {
            if envelope.position >= from {
                failed = self.apply(envelope);
            }
            failed.is_none()
        })
        .await?;
        self.read = place;
        Ok(failed)
    }

    fn apply(&mut self, envelope: &event_log::Envelope) -> Option<Poison> {
        // What cannot be read is in quarantine with its aggregate.
        let Some(Step::Apply(recorded, touch)) = step(envelope, self.definition, self.unknown) else {
            return None;
        };
        if self.held.leaves_out_aggregate(&recorded) {
            return None;
        }
        let keys = match &touch {
            Touch::Row(key) => vec![key.clone()],
            touch => self.fold.touched(touch),
        };
        for key in keys {
            let Some(limit) = self.rows.get(&key) else { continue };
            let is_beyond = limit.as_ref().is_some_and(|poison| poison.position <= recorded.position);
            if is_beyond || self.held.leaves_out(&key, recorded.position) {
                continue;
            }
            let applied = catch_unwind(AssertUnwindSafe(|| self.fold.apply_to(&key, &recorded)));
            if let Err(panic) = applied {
                let error = chain(ViewError::Apply(panic_message(panic.as_ref())));
                return Some(Poison::of_row(key, &recorded, error));
            }
        }
        None
    }

    /// Reads the rest, and writes the rows and what is left of the quarantine in one transaction.
    pub async fn finish(
        mut self,
        connection: &mut PgConnection,
        folder: &mut Folder,
    ) -> Result<Committed, ViewError> {
        let until = folder.stored.position;
        if self.poison.of_aggregate {
            let before = std::mem::take(&mut self.rows);
            self.find_rows(until).await?;
            if self.rows.keys().eq(before.keys()) {
                self.rows = before;
            } else {
                // More rows than those that were folded: once more, from the start.
                self.begin();
            }
        }
        self.advance(until).await?;
        let (view, build) = (folder.definition.name, folder.build);
        let mut transaction = write::begin(connection).await?;
        folder.stay(&mut transaction).await?;
        let mut poisons: Vec<Poison> = self.unreadable.iter().cloned().collect();
        if poisons.is_empty() {
            for (key, poison) in &self.rows {
                let refused = self.write_row(&mut transaction, folder, key).await?;
                poisons.extend(refused.map(|error| self.poison_of_row(key, error)).or(poison.clone()));
            }
        }
        for poison in &poisons {
            within(ANSWER_TIMEOUT, quarantine::put(&mut transaction, view, build, poison)).await?;
            tracing::warn!(view, key = poison.key, error = poison.error, "still in quarantine");
        }
        if poisons.iter().all(|poison| poison.key != self.poison.key) {
            within(ANSWER_TIMEOUT, quarantine::release(&mut transaction, view, build, &self.poison.key))
                .await?;
        }
        let held = within(ANSWER_TIMEOUT, Held::load(&mut transaction, view, build)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await?;
        if !held.left_out().holds(&self.poison.key) {
            tracing::info!(view, key = self.poison.key, "released from quarantine");
        }
        folder.written_otherwise(self.rows.keys(), held);
        Ok(Committed { position: folder.stored.position, changes: None, time: None })
    }

    /// Writes one row as it was folded; the error is about the row, and has changed nothing.
    async fn write_row(
        &self,
        transaction: &mut PgConnection,
        folder: &Folder,
        key: &String,
    ) -> Result<Option<String>, ViewError> {
        let mut savepoint = within(ANSWER_TIMEOUT, transaction.begin()).await?;
        let written = async {
            let encoded = self.fold.encode(std::slice::from_ref(key), false).map_err(ViewError::NewRow)?;
            let is_unchanged = self.stored.is_some() && encoded.count == 0 && encoded.gone.is_empty();
            if encoded.count == 0 && !is_unchanged {
                let delete = sqlx::query(AssertSqlSafe(folder.table.statements.delete.as_str()));
                within(ANSWER_TIMEOUT, delete.bind(vec![key]).execute(&mut *savepoint)).await?;
                return Ok(());
            }
            write::rows(&mut savepoint, &folder.table, self.fold.as_ref(), std::slice::from_ref(key)).await
        };
        match written.await {
            Ok(()) => {
                within(ANSWER_TIMEOUT, savepoint.commit()).await?;
                Ok(None)
            }
            Err(error) if error.may_be_poison() => {
                within(ANSWER_TIMEOUT, savepoint.rollback()).await?;
                Ok(Some(chain(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// The row as a whole cannot be written; nobody can say which event made it so.
    fn poison_of_row(&self, key: &str, error: String) -> Poison {
        Poison { key: key.to_owned(), of_aggregate: false, error, ..self.poison.clone() }
    }
}

/// Gives the events after `place` up to the position `until` to `event`, for as long as that says to go on.
async fn read(
    log: &EventLog,
    place: &mut Checkpoint,
    until: u64,
    mut event: impl FnMut(&event_log::Envelope) -> bool,
) -> Result<(), ViewError> {
    let mut follower = log.follow(*place);
    while place.position < until {
        for frame in follower.next().await? {
            if frame.first > until {
                return Ok(());
            }
            for envelope in &frame.events {
                if !event(envelope) {
                    return Ok(());
                }
            }
            *place = Checkpoint {
                position: frame.last(),
                frame_sequence: frame.sequence,
                frame_id: Some(frame.id),
            };
        }
    }
    Ok(())
}
