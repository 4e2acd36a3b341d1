//! Tasks that wait for their time, in the server: a message schedule (ADR-51) puts each back among those that may be
//! done.

use async_nats::HeaderMap;
use domain::values::Timestamp;

use super::{
    Queue, QueueError,
    plan::encode,
    task::{Lane, QueuedTask},
};

/// The headers of a message whose payload is put on `target` at `time`.
pub(super) fn schedule(time: Timestamp, target: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Schedule", format!("@at {time}"));
    headers.insert("Nats-Schedule-Target", target);
    headers
}

impl Queue {
    /// Puts a task among those that wait. It is stored when this returns.
    pub async fn put_later(&self, task: &QueuedTask, time: Timestamp) -> Result<(), QueueError> {
        let target = self.subjects.ready(Lane::Again, &task.id);
        self.store(self.subjects.later(&task.id), schedule(time, &target), encode(task)).await
    }

    /// Puts a task among those that may be done.
    pub async fn put_again(&self, task: &QueuedTask) -> Result<(), QueueError> {
        self.store(self.subjects.ready(Lane::Again, &task.id), HeaderMap::new(), encode(task)).await
    }
}
