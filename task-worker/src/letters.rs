//! What a person does with dead letters: look, send again, discard.

use domain::policy::Definition;
use event_log::{Envelope, EventLog};
use serde::Serialize;

use crate::{
    clock, effect,
    queue::{DeadLetter, Queue, QueueError, TaskId},
};

/// A list is no longer than this; the rest comes when those were dealt with.
pub const LIST_MAX: usize = 1_000;
/// What a reason may be long, in characters.
pub const REASON_CHARS_MAX: usize = 500;

#[derive(Clone)]
pub struct Letters {
    queue: Queue,
    log: EventLog,
    policies: &'static [Definition],
}

/// A dead letter with the event that it is owed for.
#[derive(Debug, Serialize)]
pub struct Letter {
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// None, if the log cannot be read at the moment.
    pub event: Option<Envelope>,
}

/// Dead letters, and how many there are in all.
#[derive(Debug, Serialize)]
pub struct List {
    pub total: usize,
    pub dead_letters: Vec<DeadLetter>,
}

impl Letters {
    pub fn new(queue: Queue, log: EventLog, policies: &'static [Definition]) -> Self {
        Self { queue, log, policies }
    }

    /// The first of all, or of one policy, by position.
    pub async fn list(&self, policy: Option<&str>, limit: usize) -> Result<List, QueueError> {
        let ids = self.ids(policy).await?;
        let mut dead_letters = Vec::new();
        for id in ids.iter().take(limit.min(LIST_MAX)) {
            // One that is gone by now was dealt with.
            dead_letters.extend(self.queue.dead_letter(id).await?);
        }
        Ok(List { total: ids.len(), dead_letters })
    }

    pub async fn ids(&self, policy: Option<&str>) -> Result<Vec<TaskId>, QueueError> {
        self.queue.dead_letters(policy).await
    }

    pub async fn read(&self, id: &TaskId) -> Result<Option<Letter>, QueueError> {
        let Some(letter) = self.queue.dead_letter(id).await? else { return Ok(None) };
        let event = effect::event(&self.log, id.position).await;
        Ok(Some(Letter { letter, event: event.ok().flatten() }))
    }

    /// Whether it was there.
    pub async fn send_again(&self, id: &TaskId) -> Result<bool, QueueError> {
        let now = clock::now();
        let policy = self.policies.iter().find(|policy| policy.name == id.policy);
        self.queue.send_again(id, policy.map_or(now, |policy| policy.deadline(now))).await
    }

    /// Whether it was there.
    pub async fn discard(&self, id: &TaskId, reason: &str) -> Result<bool, QueueError> {
        self.queue.discard(id, reason, clock::now()).await
    }
}
