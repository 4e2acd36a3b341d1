//! The writer: one task that owns the state. While another instance writes, it keeps its state warm by following
//! the log. While it writes itself, it takes what has arrived, decides each command against the state and what
//! this frame has decided already, appends one frame, answers, and goes on.

mod decision;
mod spans;
mod term;

use std::{path::PathBuf, sync::Arc, time::Duration};

use event_log::{AppendError, EventLog, FollowError, LogError};
use service_kit::{
    Health, Shutdown,
    lease::{Held, Instance, Lease, LeaseError},
    load::Room,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    gateway::Route,
    metrics::Metrics,
    state::{Store, StoreError},
    submission::{Refusal, Submission},
};
use term::TermEnd;

pub const HEALTH_CHECK: &str = "writer";
/// The pause before the writer starts anew after trouble.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// The same, when folding the log again has not helped: it costs more than asking once more.
const FOLD_AGAIN_DELAY: Duration = Duration::from_secs(5);
/// An instance that does not write looks this often who does.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What the writer works with.
pub struct Writer {
    pub log: EventLog,
    pub me: Instance,
    /// Where the state is kept.
    pub folder: PathBuf,
    pub queue: mpsc::Receiver<Submission>,
    /// Told how fast the queue empties.
    pub room: Arc<Room>,
    /// Tells the gateway where commands are decided.
    pub route: watch::Sender<Route>,
    pub health: Health,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
}

/// Why the writer has to start anew. Nothing is repaired: what it knew is read again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the term could not be opened: {0}")]
    Term(AppendError),
    #[error("the term ended: {0}")]
    Append(AppendError),
}

impl Trouble {
    /// What becomes of the state.
    fn remedy(&self) -> Remedy {
        match self {
            Trouble::Store(StoreError::InUse { .. } | StoreError::Folder { .. }) => Remedy::Keep,
            Trouble::Store(StoreError::Unreadable(_)) => Remedy::Reopen,
            Trouble::Store(_) | Trouble::Follow(FollowError::Replaced { .. }) => Remedy::ThrowAway,
            Trouble::Follow(_) | Trouble::Log(_) | Trouble::Lease(_) => Remedy::Keep,
            Trouble::Term(_) | Trouble::Append(_) => Remedy::Keep,
        }
    }
}

enum Remedy {
    Keep,
    /// The log has something that cannot be folded, and what was folded with it is in memory by half.
    Reopen,
    /// It may be to blame, so it is folded from the log again.
    ThrowAway,
}

impl Remedy {
    async fn apply(self, store: Store) -> Option<Store> {
        match self {
            Remedy::Keep => Some(store),
            Remedy::Reopen => None,
            Remedy::ThrowAway => {
                tracing::error!("throwing the state store away; it is folded from the log again");
                if let Err(error) = Store::discard(store).await {
                    tracing::error!(%error, "the state store cannot be thrown away");
                }
                None
            }
        }
    }
}

impl Writer {
    /// Runs until shutdown; then finishes what is queued, and gives the lease back.
    pub fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(self.run())
    }

    async fn run(mut self) {
        let mut opened = None;
        let mut last_reason = String::new();
        while let Err(trouble) = self.live(&mut opened).await {
            let reason = trouble.to_string();
            let is_repeated = reason == last_reason;
            // A reason that lasts is told once.
            if !is_repeated {
                tracing::warn!(reason, "not writing; starting anew");
            }
            self.health.fail(HEALTH_CHECK, &reason);
            last_reason = reason;
            self.go_nowhere(&trouble);
            self.refuse_waiting();
            if let Some(store) = opened.take() {
                opened = trouble.remedy().apply(store).await;
            }
            let folds_again = matches!(trouble, Trouble::Store(_));
            let delay = if is_repeated && folds_again { FOLD_AGAIN_DELAY } else { RESTART_DELAY };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.shutdown.cancelled() => break,
            }
        }
        self.route.send_replace(Route::Nowhere);
        self.queue.close();
        self.refuse_waiting();
        if let Some(store) = opened
            && let Err(error) = Store::close(store).await
        {
            tracing::warn!(%error, "the state store was not closed well");
        }
    }

    /// Stands by and writes, by turns, until shutdown.
    async fn live(&mut self, opened: &mut Option<Store>) -> Result<(), Trouble> {
        let store = match opened {
            Some(store) => store,
            None => opened.insert(Store::open(self.folder.clone()).await?),
        };
        self.log.ensure().await?;
        let log = &self.log;
        let bucket = format!("{}_WRITER", log.namespace());
        let about = "Which command-service writes to the log of Headwater";
        // As available as the log: who writes must not depend on a server that the log does without.
        let lease = Lease::open(log.client(), bucket, about, log.copies().await?, self.me).await?;
        while let Some(held) = self.stand_by(store, &lease).await? {
            let head = self.open_term(store).await?;
            self.go(Route::Here);
            match self.write(store, head, &held).await? {
                TermEnd::Finished => {
                    self.route.send_replace(Route::Nowhere);
                    held.release().await;
                    return Ok(());
                }
                TermEnd::Overtaken => {
                    tracing::warn!(term = head.term, "another instance writes now");
                    self.route.send_replace(Route::Nowhere);
                    self.refuse_waiting();
                    held.release().await;
                }
            }
        }
        Ok(())
    }

    /// Keeps the state warm until nobody writes; then takes the lease. None on shutdown.
    async fn stand_by(&self, store: &mut Store, lease: &Lease) -> Result<Option<Held>, Trouble> {
        let mut follower = self.log.follow(store.checkpoint());
        let (started, from) = (Instant::now(), store.checkpoint().position);
        let mut next_look = Instant::now();
        let mut is_warm = false;
        loop {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            let frames = follower.available().await?;
            if frames.is_empty() && !is_warm {
                is_warm = true;
                let replayed = store.checkpoint().position - from;
                tracing::info!(position = store.checkpoint().position, replayed, took = ?started.elapsed(), "the state is warm");
            }
            let has_read_all = frames.is_empty();
            for frame in frames {
                store.apply(frame).await?;
            }
            self.metrics.reached(store.checkpoint().position);
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_INTERVAL;
                match lease.holder().await? {
                    Some(holder) if holder != self.me => self.go(Route::There(holder)),
                    None if is_warm && let Some(held) = lease.take().await? => return Ok(Some(held)),
                    // An earlier lease of ours that could not be given back runs out.
                    _ => {
                        self.health
                            .fail(HEALTH_CHECK, if is_warm { "nobody writes" } else { "folding the log" });
                        self.route.send_replace(Route::Nowhere);
                    }
                }
            } else if has_read_all {
                tokio::select! {
                    () = follower.wait() => {}
                    () = tokio::time::sleep_until(next_look) => {}
                    () = self.shutdown.cancelled() => {}
                }
            }
        }
    }

    /// From now on commands are decided there.
    fn go(&self, route: Route) {
        self.health.pass(HEALTH_CHECK);
        self.route.send_if_modified(|current| {
            let is_new = *current != route;
            *current = route;
            is_new
        });
    }

    /// For now commands are decided nowhere.
    fn go_nowhere(&self, trouble: &Trouble) {
        self.route.send_replace(match trouble {
            Trouble::Term(AppendError::Refused(reason)) | Trouble::Append(AppendError::Refused(reason)) => {
                Route::LogRefuses(reason.clone())
            }
            _ => Route::Nowhere,
        });
    }

    /// Commands that nobody has looked at are given back to the gateway, which knows where else to go.
    fn refuse_waiting(&mut self) {
        while let Ok(submission) = self.queue.try_recv() {
            submission.answer(Err(Refusal::NoWriter));
        }
    }
}
