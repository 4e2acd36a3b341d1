//! One view's task: fold it for ever, and start over from the stored checkpoint when anything goes wrong.

mod batch;
mod commit;
mod database;
mod error;
mod reader;
mod session;
mod sql;
mod table;

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::Client;
use domain::view::Definition;
use event_log::EventLog;
use futures::FutureExt;
use service_kit::Shutdown;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};

use crate::status::ViewStatus;
use error::ViewError;

/// The pause after something passing went wrong doubles from the first to the last of these.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);
/// The pause after something that a person has to look at: nothing is lost by waiting, and it goes on by
/// itself once it was seen to.
const RECHECK_DELAY: Duration = Duration::from_secs(3);
/// Who folded for so long before an interruption starts again with the shortest pause.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// What it takes to fold one view.
pub struct Task {
    pub definition: &'static Definition,
    pub options: PgConnectOptions,
    pub client: Client,
    pub log: EventLog,
    pub status: Arc<ViewStatus>,
}

impl Task {
    /// Folds the view until `shutdown`.
    pub async fn run(self, shutdown: Shutdown) {
        let mut delay = RETRY_DELAY_MIN;
        loop {
            let started = Instant::now();
            // A panic in a view's own functions stops that view, and says so, as any other error would.
            let session = AssertUnwindSafe(session::run(&self, &shutdown)).catch_unwind().await;
            let error = match session.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
                Ok(()) => return,
                Err(error) => error,
            };
            let is_lasting = error.is_lasting();
            self.status.failed(format!("{:#}", anyhow::Error::from(error)), is_lasting);
            if started.elapsed() > STEADY_AFTER {
                delay = RETRY_DELAY_MIN;
            }
            let pause = if is_lasting { RECHECK_DELAY } else { delay };
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> ViewError {
    let message = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    ViewError::Panicked(
        message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into()),
    )
}
