//! Looks how much there is to do, for the status and the metrics.

use std::{sync::Arc, time::Duration};

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

/// Looks at one queue. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    pub log: EventLog,
    pub queue: Queue,
    pub policies: Arc<[&'static Definition]>,
    pub status: Status,
}

impl Monitor {
    /// Runs until `shutdown`. A queue that cannot be reached is the worker's to complain about.
    pub async fn run(self, shutdown: Shutdown) {
        let looking = async {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.look().await;
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    /// What cannot be looked at stays as it was seen last.
    pub async fn look(&self) {
        if let Ok(head) = self.log.head().await {
            self.status.log_ends(head.position);
        }
        if let Err(error) = self.count().await {
            tracing::debug!(%error, "the queue cannot be looked at");
        }
    }

    async fn count(&self) -> Result<(), QueueError> {
        let queue = &self.queue;
        for policy in &*self.policies {
            let first_deadline = queue.first_deadline(policy.name).await?;
            self.status.waits(policy.name, queue.depth(policy.name).await?, first_deadline, clock::now());
        }
        self.status.counted(queue.count().await?, queue.dead_letters(None).await?.len() as u64);
        Ok(())
    }
}
