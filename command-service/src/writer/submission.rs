//! A command on its way to the writer, and the answer on its way back.

use std::time::Duration;

use domain::{Command, Rejection};
use event_log::AppendError;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// The writer answers within this time or the outcome is unknown to the client: longer than an append may
/// take, because a command may wait for the append before its own.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// A parsed, checked command, and what came with it.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: Uuid,
    pub command: Command,
    pub key: Option<IdempotencyKey>,
    /// The revision that the client has seen: refuse if the aggregate has moved on.
    pub if_match: Option<u64>,
    pub meta: Meta,
}

/// The client's name for one command to one aggregate, and a hash that tells the command from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: String,
    pub command_hash: String,
}

impl IdempotencyKey {
    pub fn new(key: String, command: &Command) -> Self {
        let (name, fields) = command.encode();
        let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(fields.get()).finalize();
        // 64 bits tell apart the few commands that may ever share one key on one aggregate.
        let command_hash = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key, command_hash }
    }
}

/// Who caused what: kept with the events, never looked at by a decision.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    pub traceparent: Option<String>,
}

/// What came of an accepted command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The position of the aggregate's last event.
    pub revision: u64,
    /// The types of the events that followed from the command; none if it changed nothing.
    pub events: Vec<String>,
    /// The aggregate's first events were among them.
    pub is_created: bool,
}

/// Why there is no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("the aggregate is at revision {actual}")]
    RevisionMismatch { actual: u64 },
    #[error("the idempotency key was used for another command")]
    KeyReused,
    #[error("the command's events are larger than a frame may be")]
    TooLarge,
    #[error("too many commands are waiting")]
    Overloaded,
    /// Not decided: certainly without effect.
    #[error("there is no writer at the moment")]
    NoWriter,
    /// Decided, but the log did not take it.
    #[error("the log is unavailable: {0}")]
    LogUnavailable(String),
    /// Perhaps in the log.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict => Refusal::NoWriter,
            AppendError::Refused(reason) => Refusal::LogUnavailable(reason),
            AppendError::Unknown(_) => Refusal::OutcomeUnknown,
        }
    }
}

pub type Answer = Result<Outcome, Refusal>;

pub(super) struct Submission {
    pub request: Request,
    reply: oneshot::Sender<Answer>,
}

impl Submission {
    pub fn answer(self, answer: Answer) {
        // Nobody listens any more if the client hung up; the effect is the same.
        let _ = self.reply.send(answer);
    }
}

/// Hands commands to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    queue: mpsc::Sender<Submission>,
    is_ready: watch::Receiver<bool>,
}

impl Handle {
    pub(super) fn new(queue: mpsc::Sender<Submission>, is_ready: watch::Receiver<bool>) -> Self {
        Self { queue, is_ready }
    }

    /// Has the command decided. What follows does not depend on the caller's waiting for it.
    pub async fn submit(&self, request: Request) -> Answer {
        if !*self.is_ready.borrow() {
            return Err(Refusal::NoWriter);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Submission { request, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refusal::NoWriter,
        })?;
        match tokio::time::timeout(ANSWER_TIME_MAX, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::OutcomeUnknown),
        }
    }
}
