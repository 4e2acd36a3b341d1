//! What a task policy is: a pure function from an event to a task that is owed because of it. The engine that
//! runs any policy knows it by its [`Definition`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Kind, Recorded, Timestamp, values::Email};

/// Work that is owed because of events, and need not happen now.
pub trait Policy: 'static {
    /// Names the tasks everywhere: their queue, their templates, their metrics.
    const NAME: &'static str;
    /// Of the tasks that wait, those of the highest priority are done first.
    const PRIORITY: Priority;
    /// For so long after the event, or after `not_before`, may a task be held back because the services are
    /// busy: in seconds. After it the task is done regardless.
    const WITHIN_SECONDS: u32;
    /// Whose events can owe a task. Those of others are not even decoded.
    const AGGREGATES: &'static [Kind];

    /// What the event means for this policy.
    fn owed(recorded: &Recorded) -> Owed;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    High,
    Normal,
    Low,
}

/// What an event means for a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Owed {
    Nothing,
    Task(Task),
    /// What this policy owes because of earlier events of the same aggregate, and was not done yet, is owed no
    /// more.
    NoMore,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// When to do it, if not as soon as the services have time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    pub effect: Effect,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// An email from the templates that are named as the policy is.
    Email { to: Recipient, values: Value },
}

/// Whom an email goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipient {
    Address(Email),
    /// The address that stands in a row of a view when the email is sent. Where there is none by then, none is
    /// sent.
    Row {
        view: String,
        key: String,
        /// The column with the address.
        address: String,
        /// Columns whose values stand in the email, too.
        fields: Vec<String>,
    },
}

/// A policy, for engines that run any.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub priority: Priority,
    pub within_seconds: u32,
    pub aggregates: &'static [Kind],
    pub owed: fn(&Recorded) -> Owed,
}

impl Definition {
    pub const fn of<P: Policy>() -> Self {
        Self {
            name: P::NAME,
            priority: P::PRIORITY,
            within_seconds: P::WITHIN_SECONDS,
            aggregates: P::AGGREGATES,
            owed: P::owed,
        }
    }
    /// Until when load may hold a task back that can be done from `time` on.
    pub fn deadline(&self, time: Timestamp) -> Timestamp {
        time.plus_seconds(self.within_seconds.into())
    }
}
