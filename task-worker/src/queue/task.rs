//! A task as it stands in the queue, and the subjects that it has there.

use std::{fmt, str::FromStr};

use domain::{policy::Effect, values::Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names a task for good: a policy owes at most one because of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    pub policy: String,
    /// The aggregate whose event it is.
    pub aggregate: Uuid,
    /// The event's position.
    pub position: u64,
}

/// As people write it, and as it stands in a Message-ID: `welcome-email.<aggregate>.<position>`.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.policy, self.aggregate, self.position)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a task; expected like welcome-email.01890c5e-0000-7000-8000-000000000000.42")]
pub struct InvalidTaskId;

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let mut parts = text.split('.');
        let (Some(policy), Some(aggregate), Some(position), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidTaskId);
        };
        if !is_policy_name(policy) {
            return Err(InvalidTaskId);
        }
        Ok(Self {
            policy: policy.to_owned(),
            aggregate: aggregate.parse().map_err(|_| InvalidTaskId)?,
            position: position.parse().map_err(|_| InvalidTaskId)?,
        })
    }
}

/// Whether it may be a part of a subject.
pub fn is_policy_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// What there is to know about a task in order to do it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuedTask {
    #[serde(flatten)]
    pub id: TaskId,
    /// When the event was decided.
    pub event_time: Timestamp,
    /// Load holds the task back no longer than until here.
    pub deadline: Timestamp,
    /// None: the event could not be read when the task was planned. What it owes is yet to be told.
    pub effect: Option<Effect>,
    /// How often it was tried to no effect, and what came of the last time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The trace that the event belongs to (W3C).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

fn is_zero(attempts: &u32) -> bool {
    *attempts == 0
}

/// The subjects of one namespace. Every task has its own, so that what is owed because of an aggregate can be taken
/// back, and a task that is put in twice is there once.
#[derive(Clone, Debug)]
pub struct Subjects {
    namespace: String,
}

/// Two queues for each policy. In each of them deadlines never go back from one task to the next, so its first task
/// tells the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// As planned, in the order of the log.
    New,
    /// Come back from waiting, in the order of their coming.
    Again,
}

impl Lane {
    pub const ALL: [Lane; 2] = [Lane::New, Lane::Again];

    fn name(self) -> &'static str {
        match self {
            Lane::New => "new",
            Lane::Again => "again",
        }
    }
}

impl Subjects {
    pub fn of(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// Up to where the log was planned.
    pub fn planned(&self) -> String {
        format!("{}.tasks.planned", self.namespace)
    }

    pub fn ready(&self, lane: Lane, id: &TaskId) -> String {
        format!("{}.{}", self.lane(lane, &id.policy), place(id))
    }

    /// Everything of a policy that may be done now.
    pub fn all_ready(&self, policy: &str) -> String {
        format!("{}.tasks.ready.{policy}.>", self.namespace)
    }

    pub fn all_of_lane(&self, lane: Lane, policy: &str) -> String {
        format!("{}.>", self.lane(lane, policy))
    }

    fn lane(&self, lane: Lane, policy: &str) -> String {
        format!("{}.tasks.ready.{policy}.{}", self.namespace, lane.name())
    }

    /// Where a task waits for its time.
    pub fn later(&self, id: &TaskId) -> String {
        format!("{}.tasks.later.{}.{}", self.namespace, id.policy, place(id))
    }

    pub fn dead(&self, id: &TaskId) -> String {
        format!("{}.dead.{}.{}", self.namespace, id.policy, place(id))
    }

    pub fn all_dead(&self, policy: Option<&str>) -> String {
        match policy {
            Some(policy) => format!("{}.dead.{policy}.>", self.namespace),
            None => format!("{}.dead.>", self.namespace),
        }
    }

    pub fn discarded(&self, id: &TaskId) -> String {
        format!("{}.discarded.{}.{}", self.namespace, id.policy, place(id))
    }

    /// Where what one policy owes because of one aggregate can be, in the queue.
    pub fn of_aggregate(&self, policy: &str, aggregate: Uuid) -> [String; 2] {
        let tasks = format!("{}.tasks", self.namespace);
        [format!("{tasks}.ready.{policy}.*.{aggregate}.*"), format!("{tasks}.later.{policy}.{aggregate}.*")]
    }

    /// The same among the dead letters.
    pub fn dead_of_aggregate(&self, policy: &str, aggregate: Uuid) -> String {
        format!("{}.dead.{policy}.{aggregate}.*", self.namespace)
    }

    /// Says that a task became ready.
    pub fn hints(&self) -> String {
        format!("{}.queued.>", self.namespace)
    }
}

fn place(id: &TaskId) -> String {
    format!("{}.{}", id.aggregate, id.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = TaskId { policy: "welcome-email".into(), aggregate: Uuid::from_u128(7), position: 42 };
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in
            ["", "welcome-email", "welcome-email.x.1", "*.00000000-0000-0000-0000-000000000007.1", "a.b.c.d"]
        {
            assert_eq!(text.parse::<TaskId>(), Err(InvalidTaskId), "{text}");
        }
    }
}
