//! Looks where the log ends, so that lag can be told, and measures rates.

use std::{sync::Arc, time::Duration};

use event_log::EventLog;
use service_kit::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::status::Status;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until `shutdown`. A log that cannot be reached is the views' to complain about.
pub async fn run(log: EventLog, status: Arc<Status>, shutdown: Shutdown) {
    let looking = async {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measured_at = Instant::now();
        loop {
            ticks.tick().await;
            let head = log.head().await.inspect_err(|error| {
                tracing::debug!(%error, "the end of the log cannot be looked at");
            });
            status.measure(head.ok().map(|head| head.position), measured_at.elapsed());
            measured_at = Instant::now();
        }
    };
    shutdown.run_until_cancelled(looking).await;
}
