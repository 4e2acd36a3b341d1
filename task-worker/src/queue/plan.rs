//! Putting what was planned into the queue, together with how far the log was planned: all of it or nothing, by
//! JetStream's atomic batch (ADR-50). So no event is planned twice, and none is left out.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, header};
use bytes::Bytes;
use event_log::Checkpoint;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Queue, QueueError,
    later::schedule,
    task::{Lane, QueuedTask},
};
use domain::values::Timestamp;

/// JetStream takes 1,000 messages in a batch; one of them says how far the log was planned.
pub const TASKS_MAX: usize = 999;

const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// Up to where the log was planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where reading goes on.
    #[serde(with = "checkpoint")]
    pub checkpoint: Checkpoint,
    /// The position of the last event that each policy has seen. A policy that is missing has yet to start.
    pub policies: BTreeMap<String, u64>,
    /// Policies that the worker that plans does not know, and since when.
    #[serde(default)]
    pub off: BTreeMap<String, Timestamp>,
}

/// Progress as it is stored, and behind which the next is.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub progress: Progress,
    /// Of its message; 0 if there is none.
    pub sequence: u64,
}

/// Why a plan is not in the queue.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Another worker has planned since, or a person has started the policies anew.
    #[error("somebody else has moved the progress of the policies")]
    Conflict,
    /// It may be there or not; whoever looks at the stored progress knows.
    #[error(transparent)]
    Unknown(#[from] QueueError),
}

impl Queue {
    /// Up to where the log was planned, asked of the stream's leader.
    pub async fn progress(&self) -> Result<Stored, QueueError> {
        let Some(message) = self.last(&self.tasks, self.subjects.planned()).await? else {
            return Ok(Stored::default());
        };
        let progress = serde_json::from_slice(&message.payload).map_err(|error| QueueError::Damaged {
            what: "the progress of the policies".into(),
            error: error.to_string(),
        })?;
        Ok(Stored { progress, sequence: message.sequence })
    }

    /// Puts up to [`TASKS_MAX`] tasks into the queue and moves the progress on from `after`.
    pub async fn plan(
        &self,
        tasks: &[(QueuedTask, Option<Timestamp>)],
        progress: Progress,
        after: &Stored,
    ) -> Result<Stored, PlanError> {
        assert!(tasks.len() <= TASKS_MAX, "the planner ends a plan before it is too large");
        let batch = Uuid::now_v7().simple().to_string();
        for (index, (task, not_before)) in tasks.iter().enumerate() {
            let (subject, mut headers) = match not_before {
                None => (self.subjects.ready(Lane::New, &task.id), HeaderMap::new()),
                Some(time) => {
                    let target = self.subjects.ready(Lane::Again, &task.id);
                    (self.subjects.later(&task.id), schedule(*time, &target))
                }
            };
            headers.insert(BATCH_ID, batch.as_str());
            headers.insert(BATCH_SEQUENCE, (index + 1).to_string());
            let sent = self.client.publish_with_headers(subject, headers, encode(task)).await;
            sent.map_err(QueueError::unavailable)?;
        }
        let mut headers = HeaderMap::new();
        // A batch of one message is a message.
        if !tasks.is_empty() {
            headers.insert(BATCH_ID, batch.as_str());
            headers.insert(BATCH_SEQUENCE, (tasks.len() + 1).to_string());
            headers.insert(BATCH_COMMIT, "1");
        }
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, after.sequence.to_string());
        let payload = serde_json::to_vec(&progress).expect("progress has string keys");
        let request = self.client.request_with_headers(self.subjects.planned(), headers, payload.into());
        let answer = self.answered(request).await?.map_err(QueueError::unavailable)?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Answer { seq: Some(sequence), error: None }) if sequence > 0 => {
                Ok(Stored { progress, sequence })
            }
            Ok(Answer { error: Some(error), .. }) if CONFLICTS.contains(&error.err_code) => {
                Err(PlanError::Conflict)
            }
            Ok(Answer { error: Some(error), .. }) => Err(QueueError::unavailable(error.description).into()),
            _ => Err(QueueError::unavailable("the answer to a batch cannot be read").into()),
        }
    }
}

pub(super) fn encode(task: &QueuedTask) -> Bytes {
    serde_json::to_vec(task).expect("a task has string keys").into()
}

/// What JetStream answers to the last message of a batch.
#[derive(Deserialize)]
struct Answer {
    seq: Option<u64>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// A wrong last sequence; the same while another message on the subject is under way.
const CONFLICTS: [u64; 2] = [10071, 10164];

mod checkpoint {
    use event_log::Checkpoint;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    #[derive(Serialize, Deserialize)]
    struct Stored {
        position: u64,
        frame_sequence: u64,
        frame_id: Option<Uuid>,
    }

    pub fn serialize<S: Serializer>(checkpoint: &Checkpoint, serializer: S) -> Result<S::Ok, S::Error> {
        let Checkpoint { position, frame_sequence, frame_id } = *checkpoint;
        Stored { position, frame_sequence, frame_id }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Checkpoint, D::Error> {
        let Stored { position, frame_sequence, frame_id } = Stored::deserialize(deserializer)?;
        Ok(Checkpoint { position, frame_sequence, frame_id })
    }
}
