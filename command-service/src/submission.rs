//! A command on its way to the writer, and the answer on its way back.

use std::sync::Arc;

use domain::{Command, Rejection};
use event_log::AppendError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::permit::Permit;

/// A parsed, checked command, and what came with it.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: Uuid,
    pub command: Command,
    pub key: Option<IdempotencyKey>,
    /// The revision that the client has seen: refuse if the aggregate has moved on.
    pub if_match: Option<u64>,
    pub permit: Permit,
    pub meta: Meta,
}

/// The client's name for one command to one aggregate, and a hash that tells the command from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Meta {
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    pub traceparent: Option<String>,
    /// The subject of the caller's token.
    pub actor: Option<String>,
}

/// What came of an accepted command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Nothing is told of the aggregate: not even whether it is there.
    #[error("the aggregate is not the caller's")]
    NotTheirs,
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

impl Refusal {
    /// The command may be sent again as if it had never been sent.
    pub fn is_without_effect(&self) -> bool {
        matches!(self, Self::Overloaded | Self::NoWriter | Self::LogUnavailable(_))
    }
}

impl From<&AppendError> for Refusal {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Conflict => Refusal::NoWriter,
            AppendError::Refused(reason) => Refusal::LogUnavailable(reason.clone()),
            AppendError::Unknown(_) => Refusal::OutcomeUnknown,
        }
    }
}

pub type Answer = Result<Outcome, Refusal>;

/// A command in the writer's queue.
pub struct Submission {
    pub request: Arc<Request>,
    reply: oneshot::Sender<Answer>,
}

impl Submission {
    pub fn new(request: Arc<Request>) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Self { request, reply }, answer)
    }

    pub fn answer(self, answer: Answer) {
        // Nobody listens any more if the client hung up; the effect is the same.
        let _ = self.reply.send(answer);
    }
}
