//! Looks how much there is to do, for the status and the metrics.

use std::time::Duration;

use domain::policy::Definition;
use event_log::EventLog;
use service_kit::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    clock,
    queue::{Queue, QueueError},
    status::Status,
};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Runs until `shutdown`. A queue that cannot be reached is the worker's to complain about.
pub async fn run(
    log: EventLog,
    queue: Queue,
    policies: Vec<&'static Definition>,
    status: Status,
    shutdown: Shutdown,
) {
    let looking = async {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(head) = log.head().await {
                status.log_ends(head.position);
            }
            if let Err(error) = look(&queue, &policies, &status).await {
                tracing::debug!(%error, "the queue cannot be looked at");
            }
        }
    };
    shutdown.run_until_cancelled(looking).await;
}

async fn look(queue: &Queue, policies: &[&'static Definition], status: &Status) -> Result<(), QueueError> {
    for policy in policies {
        let first_deadline = queue.first_deadline(policy.name).await?;
        status.waits(policy.name, queue.depth(policy.name).await?, first_deadline, clock::now());
    }
    status.counted(queue.len().await?, queue.dead_letters(None).await?.len() as u64);
    Ok(())
}
