//! One view's task: fold it for ever, and start over from the stored checkpoint when anything goes wrong.

mod session;

mod rebuild;
mod verify;

mod folding;

mod batch;
mod behind;
mod folder;
mod held;
mod reader;
mod refold;
mod spans;

mod database;
mod error;
mod sql;
mod table;
mod write;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::Client;
use domain::view::Definition;
use event_log::EventLog;
use futures::FutureExt;
use service_kit::Shutdown;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};

use crate::{share::Share, status::ViewStatus};

pub use batch::{UnknownEvents, Unreadable};
pub use database::{connect, lock_unused};
pub use error::ViewError;
pub use folder::Committed;
pub use folding::Step;
pub use rebuild::{BYTES_MAX, Phase, Progress, Rebuild, RebuildError, Rebuilt, Settings, Which};
pub use spans::BatchSpans;
pub use verify::Verify;

/// The pause after something passing went wrong doubles from the first to the last of these.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);
/// The pause after something that a person has to look at: nothing is lost by waiting, and it goes on by
/// itself once it was seen to.
const RECHECK_DELAY: Duration = Duration::from_secs(3);
/// The same where looking again means to read the whole log.
const REVERIFY_DELAY: Duration = Duration::from_secs(60);
/// Who folded for so long before an interruption starts again with the shortest pause.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// What it takes to fold one view.
pub struct Task {
    pub definition: &'static Definition,
    pub options: PgConnectOptions,
    pub client: Client,
    pub log: EventLog,
    pub status: Arc<ViewStatus>,
    pub share: Arc<Share>,
    pub unknown_events: UnknownEvents,
    /// Names this projector to people.
    pub me: Arc<str>,
    /// Up to this position the view is folded frame by frame, because it could not be folded in bulk.
    pub careful_until: AtomicU64,
}

impl Task {
    /// Folds the view until `shutdown`.
    pub async fn run(self, shutdown: Shutdown) {
        let mut delay = RETRY_DELAY_MIN;
        loop {
            let started = Instant::now();
            // A panic stops that view, and says so, as any other error would.
            let session = AssertUnwindSafe(session::run(&self, &shutdown)).catch_unwind().await;
            let result = session
                .unwrap_or_else(|panic| Err(ViewError::Panicked(error::panic_message(panic.as_ref()))));
            if shutdown.is_cancelled() {
                return;
            }
            if started.elapsed() > STEADY_AFTER {
                delay = RETRY_DELAY_MIN;
            }
            let pause = match result {
                // A build was switched to: readers wait for somebody to fold it on.
                Ok(()) => Duration::ZERO,
                // The view was left to others.
                Err(ViewError::Yielded) => RETRY_DELAY_MIN,
                Err(error) => {
                    let pause = match &error {
                        ViewError::Differs(_) => REVERIFY_DELAY,
                        error if error.is_lasting() && !error.may_be_poison() => RECHECK_DELAY,
                        _ => delay,
                    };
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                    let is_lasting = error.is_lasting();
                    self.status.failed(error::chain(error), is_lasting);
                    pause
                }
            };
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    fn careful_until(&self) -> u64 {
        self.careful_until.load(Ordering::Relaxed)
    }

    fn be_careful_until(&self, position: u64) {
        self.careful_until.fetch_max(position, Ordering::Relaxed);
    }
}
