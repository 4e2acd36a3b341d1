//! Dead letters: tasks that could not be done, kept until a person decides.

use async_nats::{HeaderMap, header};
use domain::values::Timestamp;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::{
    Queue, QueueError,
    task::{self, QueuedTask, TaskId},
};

/// What was discarded is kept for so long.
const DISCARDED_KEPT_DAYS: u64 = 90;

/// A task that could not be done, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    #[serde(flatten)]
    pub task: QueuedTask,
    pub died_at: Timestamp,
}

/// A dead letter that a person did not want to be sent again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Discarded {
    #[serde(flatten)]
    letter: DeadLetter,
    discarded_at: Timestamp,
    reason: String,
}

impl Queue {
    pub async fn bury(&self, task: QueuedTask, now: Timestamp) -> Result<(), QueueError> {
        let subject = self.subjects.dead(&task.id);
        self.store(subject, HeaderMap::new(), encode(&DeadLetter { task, died_at: now })).await
    }

    pub async fn dead_letter(&self, id: &TaskId) -> Result<Option<DeadLetter>, QueueError> {
        let message = self.last(&self.dead_letters, self.subjects.dead(id)).await?;
        message.map(|message| decode(&message.payload)).transpose()
    }

    /// The ids of all dead letters, or of one policy, in the order of their positions.
    pub async fn dead_letters(&self, policy: Option<&str>) -> Result<Vec<TaskId>, QueueError> {
        // What is no name would ask for other subjects than those of a policy.
        if policy.is_some_and(|policy| !task::is_policy_name(policy)) {
            return Ok(Vec::new());
        }
        let stream = self.answered(self.jetstream.get_stream_no_info(&self.dead_letters)).await?;
        let stream = stream.map_err(QueueError::unavailable)?;
        let subjects = self.answered(stream.info_with_subjects(self.subjects.all_dead(policy))).await?;
        let subjects: Vec<(String, usize)> = self
            .answered(subjects.map_err(QueueError::unavailable)?.try_collect())
            .await?
            .map_err(QueueError::unavailable)?;
        let mut ids: Vec<TaskId> =
            subjects.iter().filter_map(|(subject, _)| subject.splitn(3, '.').nth(2)?.parse().ok()).collect();
        ids.sort_by_key(|id| id.position);
        Ok(ids)
    }

    /// Puts a dead letter back among the tasks that may be done, as if it had never been tried. Whether it was there.
    pub async fn send_again(&self, id: &TaskId, deadline: Timestamp) -> Result<bool, QueueError> {
        let Some(letter) = self.dead_letter(id).await? else { return Ok(false) };
        // In this order, a crash in between leaves it in both places, and the next request makes it one again.
        self.put_again(&QueuedTask { attempts: 0, error: None, deadline, ..letter.task }).await?;
        self.exhume(id).await?;
        Ok(true)
    }

    /// Ends a dead letter for good; it is kept with the reason for a while. Whether it was there.
    pub async fn discard(&self, id: &TaskId, reason: &str, now: Timestamp) -> Result<bool, QueueError> {
        let Some(letter) = self.dead_letter(id).await? else { return Ok(false) };
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_TTL, format!("{}h", DISCARDED_KEPT_DAYS * 24));
        let discarded = Discarded { letter, discarded_at: now, reason: reason.to_owned() };
        self.store(self.subjects.discarded(id), headers, encode(&discarded)).await?;
        self.exhume(id).await?;
        Ok(true)
    }

    async fn exhume(&self, id: &TaskId) -> Result<(), QueueError> {
        self.purge(&self.dead_letters, self.subjects.dead(id)).await
    }
}

fn encode(letter: &impl Serialize) -> bytes::Bytes {
    serde_json::to_vec(letter).expect("a dead letter has string keys").into()
}

fn decode(payload: &[u8]) -> Result<DeadLetter, QueueError> {
    serde_json::from_slice(payload)
        .map_err(|error| QueueError::Damaged { what: "a dead letter".into(), error: error.to_string() })
}
