//! Taking tasks out of the queue.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message, consumer};
use domain::values::Timestamp;
use futures::StreamExt;

use super::{
    Queue, QueueError,
    task::{Lane, QueuedTask},
};

/// A task whose worker has said nothing for so long is given to another.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// Tasks of one policy that are under way at once, on all workers together.
const UNDER_WAY_MAX: i64 = 10_000;

/// A task that this worker has, until it says what came of it.
pub struct Delivery {
    message: Message,
    pub task: QueuedTask,
    /// How often it was given to a worker, this time included.
    pub number: i64,
}

impl Queue {
    pub(super) async fn ensure_consumer(&self, policy: &str) -> Result<(), QueueError> {
        let config = consumer::pull::Config {
            durable_name: Some(policy.to_owned()),
            filter_subject: self.subjects.all_ready(policy),
            ack_wait: ACK_WAIT,
            max_ack_pending: UNDER_WAY_MAX,
            ..Default::default()
        };
        let made = self.answered(self.jetstream.create_consumer_on_stream(config, &self.tasks)).await?;
        made.map(drop).map_err(QueueError::unavailable)
    }

    /// Up to `count` tasks of a policy, as many as may be done now.
    pub async fn take(&self, policy: &str, count: usize) -> Result<Vec<Delivery>, QueueError> {
        let consumer = self.consumer(policy).await?;
        let fetched = self.answered(consumer.fetch().max_messages(count).messages()).await?;
        let mut fetched = fetched.map_err(QueueError::unavailable)?;
        let mut deliveries = Vec::new();
        while let Some(message) = self.answered(fetched.next()).await? {
            let message = message.map_err(QueueError::unavailable)?;
            let number = message.info().map_err(QueueError::unavailable)?.delivered;
            match serde_json::from_slice(&message.payload) {
                Ok(task) => deliveries.push(Delivery { message, task, number }),
                Err(error) => {
                    // No worker of ours put it there. It stays for a person to look at.
                    tracing::error!(subject = %message.subject, %error, "what is in the queue is no task");
                    let _ = message.ack_with(AckKind::Nak(Some(Duration::from_secs(3600)))).await;
                }
            }
        }
        Ok(deliveries)
    }

    /// The earliest deadline of the tasks of a policy that are ready or under way.
    pub async fn first_deadline(&self, policy: &str) -> Result<Option<Timestamp>, QueueError> {
        let mut first: Option<Timestamp> = None;
        for lane in Lane::ALL {
            let task: Option<QueuedTask> = self.first(self.subjects.all_of_lane(lane, policy)).await?;
            first = [first, task.map(|task| task.deadline)].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// Whether a task that was given out before was also brought to where it is to be next, by a worker that did not
    /// come to say so.
    pub async fn was_moved(&self, delivery: &Delivery) -> Result<bool, QueueError> {
        let id = &delivery.task.id;
        let here = delivery.message.subject.to_string();
        let places = [
            (&self.tasks, self.subjects.later(id)),
            (&self.tasks, self.subjects.ready(Lane::Again, id)),
            (&self.dead_letters, self.subjects.dead(id)),
        ];
        for (stream, subject) in places {
            if subject != here && self.last(stream, subject).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Delivery {
    /// There is nothing more to do: the queue forgets the task.
    pub async fn done(&self) -> Result<(), QueueError> {
        self.message.ack().await.map_err(QueueError::unavailable)
    }

    /// It is still being done. What is not heard is said again.
    pub async fn under_way(&self) {
        let _ = self.message.ack_with(AckKind::Progress).await;
    }

    /// To be given out again after a while, with nothing done. What is not heard comes back by itself.
    pub async fn give_back(&self, after: Duration) {
        let _ = self.message.ack_with(AckKind::Nak(Some(after))).await;
    }
}
