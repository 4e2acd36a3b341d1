//! From taking a view over until something goes wrong: one session with Postgres, one reader of the log.

use std::time::Duration;

use async_nats::connection::State;
use service_kit::Shutdown;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{
    Task,
    batch::Batch,
    database::{self, ANSWER_TIMEOUT, within},
    error::ViewError,
    folding::{Folding, Gather, Settings, Step},
    rebuild, refold,
};
use crate::{
    migrations,
    registry::{self, Build},
    share::Place,
    signal::Signaller,
};

/// A client that has just started, or lost its server, has this long to connect before that is news.
const CONNECTED_LOOKS: u32 = 25;
const CONNECTED_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a standby tries to take over.
const STANDBY_RETRY: Duration = Duration::from_millis(500);
/// A view that nobody folds for so many tries is taken over by a projector that has its share already.
const TRIES_BEFORE_INSISTING: u32 = 3;
/// How often a session makes sure that it still has the view, and looks for requests.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Rows in memory, so that those need not be fetched which change again and again.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// What has been read already is shown together; nothing is waited for, and not for long.
const GATHER: Gather =
    Gather { within: Duration::from_millis(200), patience: Duration::ZERO, until: u64::MAX };

/// Folds the view until `shutdown`, or until something goes wrong.
pub async fn run(task: &Task, shutdown: &Shutdown) -> Result<(), ViewError> {
    connected(task).await?;
    let view = task.definition.name;
    let mut connection = database::connect(&task.options, view).await?;
    let pending = within(ANSWER_TIMEOUT, migrations::pending(&mut connection)).await?;
    if !pending.is_empty() {
        return Err(ViewError::NotMigrated(pending));
    }
    within(ANSWER_TIMEOUT, task.share.announce(&mut connection, view)).await?;
    let in_use = within(ANSWER_TIMEOUT, registry::in_use(&mut connection, view)).await?;
    if in_use.version > task.definition.version {
        task.status.outdated(in_use.checkpoint.position, in_use.folded_by);
        let (in_use, ours) = (in_use.version, task.definition.version);
        return Err(ViewError::Newer { view, in_use, ours });
    }
    if in_use.version < task.definition.version {
        let rebuilt = shutdown.run_until_cancelled(rebuild::by_service(task, connection)).await;
        return rebuilt.unwrap_or(Ok(()));
    }
    let taken_over = shutdown.run_until_cancelled(take_over(task, &mut connection)).await;
    if let Some((build, place)) = taken_over.transpose()? {
        let settings = Settings {
            unknown_events: task.unknown_events,
            bytes_max: BYTES_MAX,
            careful_until: task.careful_until(),
        };
        let mut folding =
            Folding::open(&mut connection, &task.log, task.definition, &build, settings).await?;
        folding.tell_of(format!("{}.log.0", task.log.namespace()));
        let may_yield_at = Instant::now() + CHECK_EVERY;
        let session =
            Session { task, connection: &mut connection, folding, place: Some(place), may_yield_at };
        session.fold(shutdown).await?;
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

/// Waits until no other projector has the view, and it is this one's turn.
async fn take_over<'a>(
    task: &'a Task,
    connection: &mut PgConnection,
) -> Result<(Build, Place<'a>), ViewError> {
    let view = task.definition.name;
    let mut unfolded_for = 0;
    let mut is_wanted = false;
    loop {
        let build = within(ANSWER_TIMEOUT, registry::in_use(connection, view)).await?;
        if build.version != task.definition.version {
            return Err(ViewError::Fenced);
        }
        let fair = within(ANSWER_TIMEOUT, task.share.fair(connection, view)).await?;
        let place = task.share.take(fair.unwrap_or(usize::MAX));
        let wants = place.is_some();
        let insists = place.is_none() && unfolded_for >= TRIES_BEFORE_INSISTING;
        let place = if insists { Some(task.share.insist()) } else { place };
        if let Some(place) = place {
            if database::try_lock(connection, view, build.number).await? {
                // Read after the lock was taken: nobody else moves it any more.
                let in_use = within(ANSWER_TIMEOUT, registry::in_use(connection, view)).await?;
                if in_use.number == build.number {
                    return Ok((in_use, place));
                }
                // Another build was switched to in between: the lock is of one that is not read any more.
                database::unlock(connection, view, build.number).await?;
                continue;
            }
        } else if database::is_unlocked(connection, view, build.number).await? {
            unfolded_for += 1;
        } else {
            unfolded_for = 0;
        }
        if wants != is_wanted {
            within(ANSWER_TIMEOUT, task.share.want(connection, view, wants)).await?;
            is_wanted = wants;
        }
        if database::end_silent_holder(connection, view, build.number).await? {
            let folded_by = build.folded_by.as_deref();
            tracing::warn!(
                view,
                folded_by,
                "who folds the view fell silent within a statement, and loses it"
            );
        }
        task.status.standby(build.checkpoint.position, build.folded_by);
        sleep(STANDBY_RETRY).await;
    }
}

struct Session<'a> {
    task: &'a Task,
    connection: &'a mut PgConnection,
    folding: Folding,
    place: Option<Place<'a>>,
    may_yield_at: Instant,
}

impl Session<'_> {
    async fn fold(mut self, shutdown: &Shutdown) -> Result<(), ViewError> {
        // It comes once the checkpoint was found in the log.
        let Some(first) = shutdown.run_until_cancelled(self.folding.next()).await.transpose()? else {
            return Ok(());
        };
        // The view is active once a batch is committed: one that fails at its first batch, again and again,
        // does not look well in between. The reset covers what changed in it.
        let (view, build) = (self.task.definition.name, self.folding.folder.build);
        database::sign(self.connection, view, build, &self.task.me).await?;
        let term = within(ANSWER_TIMEOUT, registry::begin_term(self.connection, view)).await?;
        let committed = self.commit(first).await?.committed;
        self.task.status.active(build, &committed);
        let Task { client, log, .. } = self.task;
        let signaller = Signaller::new(client.clone(), log.namespace(), view, term, committed.position);
        signaller.reset().await;
        tokio::select! {
            result = self.fold_on(&signaller, shutdown) => result,
            never = signaller.beat() => match never {},
        }
    }

    async fn fold_on(&mut self, signaller: &Signaller, shutdown: &Shutdown) -> Result<(), ViewError> {
        let mut checks = interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refolding = None;
        loop {
            let batch = tokio::select! {
                // A transaction under way is finished first: this is asked between two of them.
                biased;
                () = shutdown.cancelled() => return Ok(()),
                refolded = refold::done(&mut refolding) => {
                    let refolded = refolded?.finish(self.connection, &mut self.folding.folder).await?;
                    // If it came to nothing, the next check finds that it is still asked for.
                    let Some(term) = refolded else { continue };
                    self.task.status.quarantined(self.folding.folder.held.len());
                    signaller.begin_term(term).await;
                    continue;
                }
                _ = checks.tick() => {
                    self.check().await?;
                    if refolding.is_none() {
                        refolding = refold::start(self.task, self.connection, &mut self.folding.folder).await?;
                    }
                    continue;
                }
                batch = self.folding.next() => batch?,
            };
            let Step { committed, spans, .. } = self.commit(batch).await?;
            signaller.changed(committed.position, committed.changes, spans).await;
        }
    }

    async fn commit(&mut self, batch: Batch) -> Result<Step, ViewError> {
        let step = self.folding.commit(self.connection, batch, GATHER).await.inspect_err(|error| {
            if error.may_be_poison() {
                self.task.be_careful_until(self.folding.careful_until());
            }
        })?;
        self.task.status.committed(&step);
        self.task.status.quarantined(self.folding.folder.held.len());
        Ok(step)
    }

    /// Notices a lost session, a fence, or a switch to another build while there is nothing to commit, and
    /// leaves the view to a projector that has fewer and wants it.
    async fn check(&mut self) -> Result<(), ViewError> {
        let (view, build) = (self.task.definition.name, self.folding.folder.build);
        let stored = database::stored(self.connection, view, build).await?;
        if stored.checkpoint != self.folding.folder.stored || stored.build_in_use != build {
            return Err(ViewError::Fenced);
        }
        if Instant::now() < self.may_yield_at {
            return Ok(());
        }
        let fair = within(ANSWER_TIMEOUT, self.task.share.fair(self.connection, view)).await?;
        let Some(fair) = fair else { return Ok(()) };
        if !within(ANSWER_TIMEOUT, self.task.share.is_wanted(self.connection, view)).await? {
            return Ok(());
        }
        let Some(place) = self.place.take() else { return Ok(()) };
        match place.give_up_surplus(fair) {
            Ok(()) => Err(ViewError::Yielded),
            Err(place) => {
                self.place = Some(place);
                Ok(())
            }
        }
    }
}
