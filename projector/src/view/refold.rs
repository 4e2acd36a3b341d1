//! Folds keys in quarantine again, from the log: there is what was held back, in order, so nothing has to be
//! kept elsewhere, and it does not matter what else has happened to the rows since.
//!
//! The log is read beside the session, which goes on folding everything else; in the end, between two of its
//! transactions, the rest is read and the rows are written. Where the rest has anything to it, that attempt is given
//! up, so that everything else never waits for long.

mod rehearsal;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use domain::{
    Recorded,
    view::{Definition, Fold, Touch, aggregate_key},
};
use event_log::{Checkpoint, Envelope, EventLog, FollowError, Target};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgConnectOptions};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Task,
    batch::{Step, UnknownEvents, kind, step},
    database::{ANSWER_TIMEOUT, within},
    error::{ViewError, chain, panic_message},
    folder::Folder,
    held::Held,
    write,
};
use crate::{
    quarantine::{self, Poison, Request},
    registry,
};
use rehearsal::Rehearsal;

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
    options: PgConnectOptions,
    log: EventLog,
    definition: &'static Definition,
    build: i32,
    unknown: UnknownEvents,
    /// What put the key into quarantine.
    poison: Poison,
    /// What else is held back.
    held: Held,
    /// The row before the event, and the place in the log to go on from; without, rows are folded from the start.
    stored: Option<(Option<String>, Checkpoint)>,
    /// The rows, each with the event that it cannot take, if one was met.
    rows: BTreeMap<String, Option<Poison>>,
    /// Up to where the rows that the aggregate touches were looked for.
    searched: Checkpoint,
    /// The aggregate's first event that still cannot be read.
    unreadable: Option<Poison>,
    fold: Box<dyn Fold>,
    read: Checkpoint,
    /// How many events were applied to the rows, and how many when Postgres was last asked whether it takes them.
    applied: u64,
    rehearsed: u64,
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
        let place = task.log.seek(Target::Position(poison.position)).await;
        let place = place.map_err(|error| FollowError::Unavailable(error.to_string()))?;
        let mut refold = Self {
            options: task.options.clone(),
            log: task.log.clone(),
            definition,
            build,
            unknown: task.unknown_events,
            poison,
            held,
            stored: None,
            rows: BTreeMap::new(),
            searched: place,
            unreadable: None,
            fold: (definition.fold)(),
            read: Checkpoint::default(),
            applied: 0,
            rehearsed: 0,
        };
        if !refold.poison.of_aggregate {
            let row = refold.stored_row(connection, folder).await?;
            refold.stored = row.map(|row| (row, place));
            refold.rows.insert(refold.poison.key.clone(), None);
        }
        Ok(refold)
    }

    /// The row as it was before the event, if it can be read.
    async fn stored_row(
        &self,
        connection: &mut PgConnection,
        folder: &Folder,
    ) -> Result<Option<Option<String>>, ViewError> {
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
        let is_readable = (self.definition.fold)().load(self.poison.key.clone(), row.as_deref()).is_ok();
        Ok(is_readable.then_some(row))
    }

    /// Reads the log up to `position`.
    async fn advanced(mut self, position: u64) -> Result<Self, ViewError> {
        self.find_rows(position).await?;
        self.begin();
        self.advance(position).await?;
        self.rehearse(position).await?;
        Ok(self)
    }

    /// Which rows the events of the aggregate touch that were held back, up to the first that still cannot be
    /// read.
    async fn find_rows(&mut self, until: u64) -> Result<(), ViewError> {
        if !self.poison.of_aggregate {
            return Ok(());
        }
        let (mut place, log) = (self.searched, self.log.clone());
        let Self { definition, unknown, poison, held, rows, unreadable, .. } = self;
        read(&log, &mut place, until, |envelope| {
            let is_ours = aggregate_key(kind(envelope), envelope.subject) == poison.key;
            let position = envelope.position;
            if !is_ours || position < poison.position || held.left_out().skips(position, &poison.key) {
                return true;
            }
            if let Some(unreadable) = unreadable {
                unreadable.held += 1;
                return true;
            }
            match step(envelope, definition, *unknown) {
                None | Some(Step::Apply(_, Touch::Nothing)) => {}
                Some(Step::Apply(_, Touch::Row(key))) => {
                    rows.entry(key).or_default();
                }
                Some(Step::Apply(recorded, Touch::Rows { column, .. })) => {
                    let error = format!(
                        "it touches rows by their {column}, which only a rebuild of the view can make up for"
                    );
                    let poison = Poison::of_row(poison.key.clone(), &recorded, error);
                    *unreadable = Some(Poison { of_aggregate: true, ..poison });
                }
                Some(Step::Unreadable(found)) => *unreadable = Some(found.as_ref().into()),
            }
            true
        })
        .await?;
        self.searched = place;
        if let Some(Poison { key, position, .. }) = &self.unreadable {
            self.held.put(key.clone(), *position)?;
        }
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
        self.applied = 0;
        self.rows.values_mut().flatten().for_each(|poison| poison.held = 0);
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
        if self.rows.is_empty() {
            return Ok(None);
        }
        let (mut place, mut failed, log) = (self.read, None, self.log.clone());
        read(&log, &mut place, until, |envelope| {
            if let Some((recorded, keys)) = self.concerns(envelope) {
                failed = keys.into_iter().find_map(|key| self.apply(key, &recorded));
            }
            failed.is_none()
        })
        .await?;
        self.read = place;
        Ok(failed)
    }

    /// The event, if it counts, and those of the rows that it touches and that can take it.
    fn concerns(&mut self, envelope: &Envelope) -> Option<(Box<Recorded>, Vec<String>)> {
        let from = if self.stored.is_some() { self.poison.position } else { 0 };
        if envelope.position < from {
            return None;
        }
        // What cannot be read is in quarantine with its aggregate.
        let Some(Step::Apply(recorded, touch)) = step(envelope, self.definition, self.unknown) else {
            return None;
        };
        if self.held.leaves_out_aggregate(&recorded) {
            return None;
        }
        let mut keys = match touch {
            Touch::Row(key) => vec![key],
            touch => self.fold.touched(&touch),
        };
        keys.retain(|key| match self.rows.get_mut(key) {
            Some(Some(poison)) if poison.position <= recorded.position => {
                poison.held += 1;
                false
            }
            Some(_) => !self.held.leaves_out(key, recorded.position),
            None => false,
        });
        Some((recorded, keys))
    }

    fn apply(&mut self, key: String, recorded: &Recorded) -> Option<Poison> {
        self.applied += 1;
        let applied = catch_unwind(AssertUnwindSafe(|| self.fold.apply_to(&key, recorded)));
        let panic = applied.err()?;
        let error = chain(ViewError::Apply(panic_message(panic.as_ref())));
        Some(Poison::of_row(key, recorded, error))
    }

    /// Finds out whether Postgres takes the rows. One that it refuses is folded once more, up to the first event
    /// that makes it so.
    async fn rehearse(&mut self, until: u64) -> Result<(), ViewError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut rehearsal = Rehearsal::open(&self.options, self.definition, self.build).await?;
        loop {
            let mut refused = Vec::new();
            for key in self.rows.keys() {
                if rehearsal.refuses(self.fold.as_ref(), key).await?.is_some() {
                    refused.push(key.clone());
                }
            }
            if refused.is_empty() {
                self.rehearsed = self.applied;
                return Ok(());
            }
            for key in refused {
                let Some(poison) = self.first_refused(&mut rehearsal, &key, until).await? else {
                    return Ok(());
                };
                self.rows.insert(key, Some(poison));
            }
            self.begin();
            self.advance(until).await?;
        }
    }

    /// The first event after which Postgres does not take the row.
    async fn first_refused(
        &mut self,
        rehearsal: &mut Rehearsal,
        key: &String,
        until: u64,
    ) -> Result<Option<Poison>, ViewError> {
        self.begin();
        let mut follower = self.log.follow(self.read);
        while follower.checkpoint().position < until {
            for frame in follower.next().await? {
                for envelope in frame.events.iter().filter(|event| event.position <= until) {
                    let Some((recorded, keys)) = self.concerns(envelope) else { continue };
                    if !keys.contains(key) {
                        continue;
                    }
                    if let Some(poison) = self.apply(key.clone(), &recorded) {
                        return Ok(Some(poison));
                    }
                    if let Some(error) = rehearsal.refuses(self.fold.as_ref(), key).await? {
                        return Ok(Some(Poison::of_row(key.clone(), &recorded, error)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads the rest, and writes the rows and what is left of the quarantine in one transaction. Does nothing,
    /// and has to be begun anew, if there is trouble in the rest.
    pub async fn finish(
        mut self,
        connection: &mut PgConnection,
        folder: &mut Folder,
    ) -> Result<Option<u64>, ViewError> {
        let (view, build, until) = (folder.definition.name, folder.build, folder.stored.position);
        let rows = self.rows.len();
        self.find_rows(until).await?;
        if self.rows.len() != rows || self.advance_or_fail(until).await?.is_some() {
            return Ok(None);
        }
        let mut transaction = write::begin(connection).await?;
        folder.stay(&mut transaction).await?;
        for key in self.rows.keys() {
            match self.write_row(&mut transaction, folder, key).await {
                Ok(()) => {}
                Err(error) if error.may_be_poison() => {
                    within(ANSWER_TIMEOUT, transaction.rollback()).await?;
                    if self.applied != self.rehearsed {
                        return Ok(None);
                    }
                    // For a reason that the rehearsal cannot know, such as a trigger.
                    return self.stays(connection, folder, chain(error)).await.map(|()| None);
                }
                Err(error) => return Err(error),
            }
        }
        let poisons = || self.rows.values().flatten().chain(&self.unreadable);
        for poison in poisons() {
            within(ANSWER_TIMEOUT, quarantine::put(&mut transaction, view, build, poison)).await?;
        }
        if poisons().all(|poison| poison.key != self.poison.key) {
            within(ANSWER_TIMEOUT, quarantine::release(&mut transaction, view, build, &self.poison.key))
                .await?;
        }
        let held = within(ANSWER_TIMEOUT, Held::load(&mut transaction, view, build)).await?;
        let term = within(ANSWER_TIMEOUT, registry::begin_term(&mut transaction, view)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await?;
        for Poison { key, position, error, .. } in poisons() {
            tracing::warn!(view, key, position, error, "still in quarantine");
        }
        if poisons().all(|poison| poison.key != self.poison.key) {
            tracing::info!(view, key = self.poison.key, "released from quarantine");
        }
        folder.written_otherwise(self.rows.keys(), held);
        Ok(Some(term))
    }

    async fn write_row(
        &self,
        transaction: &mut PgConnection,
        folder: &Folder,
        key: &String,
    ) -> Result<(), ViewError> {
        let encoded = self.fold.encode(std::slice::from_ref(key), false).map_err(ViewError::NewRow)?;
        let is_unchanged = self.stored.is_some() && encoded.count == 0 && encoded.gone.is_empty();
        if encoded.count == 0 && !is_unchanged {
            let delete = sqlx::query(AssertSqlSafe(folder.table.statements.delete.as_str()));
            within(ANSWER_TIMEOUT, delete.bind(vec![key]).execute(transaction)).await?;
            return Ok(());
        }
        write::rows(transaction, &folder.table, self.fold.as_ref(), std::slice::from_ref(key)).await
    }

    /// Notes that the attempt came to nothing: the rows cannot be written, and nobody can say which event made
    /// them so.
    async fn stays(
        self,
        connection: &mut PgConnection,
        folder: &Folder,
        error: String,
    ) -> Result<(), ViewError> {
        let (view, build) = (folder.definition.name, folder.build);
        let poison = Poison { error, ..self.poison };
        tracing::warn!(view, key = poison.key, error = poison.error, "still in quarantine");
        let mut transaction = write::begin(connection).await?;
        folder.stay(&mut transaction).await?;
        within(ANSWER_TIMEOUT, quarantine::put(&mut transaction, view, build, &poison)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await
    }
}

/// Gives the events after `place` up to the position `until` to `event`, for as long as that says to go on.
async fn read(
    log: &EventLog,
    place: &mut Checkpoint,
    until: u64,
    mut event: impl FnMut(&Envelope) -> bool,
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
