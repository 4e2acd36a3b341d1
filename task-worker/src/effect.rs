//! Does what a task is about.

mod rows;

use domain::{
    policy::{Definition, Effect, Owed, Recipient},
    values::Email,
};
use event_log::{EventLog, LogError, Target};
use serde_json::Value;

use crate::{
    mail::{Mail, MailError, Mailer},
    planner,
    queue::{QueuedTask, TaskId},
};
use rows::Row;
pub use rows::Rows;

/// What came of doing a task.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    Done,
    /// There was nothing to do (any more).
    NotOwed,
}

/// Why a task is not done.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// It will never be done as it is.
    #[error("{0}")]
    Refused(String),
    /// Not this one now.
    #[error("{0}")]
    NotNow(String),
    /// None now, whichever it is.
    #[error("{0}")]
    Unavailable(String),
}

impl From<MailError> for EffectError {
    fn from(error: MailError) -> Self {
        let text = error.to_string();
        match error {
            MailError::Refused(_) => Self::Refused(text),
            MailError::NotNow(_) => Self::NotNow(text),
            MailError::Unavailable(_) => Self::Unavailable(text),
        }
    }
}

impl From<LogError> for EffectError {
    fn from(error: LogError) -> Self {
        Self::NotNow(error.to_string())
    }
}

/// All that tasks can bring about.
pub struct Effects {
    pub mailer: Mailer,
    pub rows: Rows,
    pub log: EventLog,
    pub policies: &'static [Definition],
}

impl Effects {
    pub async fn perform(&self, task: &QueuedTask) -> Result<Done, EffectError> {
        match &task.effect {
            Some(effect) => self.bring_about(&task.id, effect).await,
            None => match self.decide(&task.id).await? {
                Some(effect) => self.bring_about(&task.id, &effect).await,
                None => Ok(Done::NotOwed),
            },
        }
    }

    async fn bring_about(&self, id: &TaskId, effect: &Effect) -> Result<Done, EffectError> {
        let Effect::Email { to, values } = effect;
        let Some((to, values)) = self.addressed(id, to, values).await? else { return Ok(Done::NotOwed) };
        let mail = Mail { template: &id.policy, to: &to, values: &values, id: &id.to_string() };
        self.mailer.send(&mail).await?;
        Ok(Done::Done)
    }

    /// The address, and the values with those that are looked up.
    async fn addressed(
        &self,
        id: &TaskId,
        to: &Recipient,
        values: &Value,
    ) -> Result<Option<(Email, Value)>, EffectError> {
        match to {
            Recipient::Address(email) => Ok(Some((email.clone(), values.clone()))),
            Recipient::Row { view, key, address, fields } => {
                let columns = std::iter::once(address).chain(fields);
                let row = self.rows.row(view, key, columns, id.position).await?;
                row.map_or(Ok(None), |row| written_to(row, address, values))
            }
        }
    }

    /// What an event owes that could not be read when it was planned.
    async fn decide(&self, id: &TaskId) -> Result<Option<Effect>, EffectError> {
        let policy = self.policies.iter().find(|policy| policy.name == id.policy);
        let policy =
            policy.ok_or_else(|| EffectError::Refused(format!("there is no policy {}", id.policy)))?;
        let event = event(&self.log, id.position).await?;
        let event =
            event.ok_or_else(|| EffectError::Refused(format!("there is no event {}", id.position)))?;
        let recorded = planner::read(&event).map_err(|error| EffectError::Refused(error.to_string()))?;
        Ok(match (policy.owed)(&recorded) {
            Owed::Task(task) => Some(task.effect),
            Owed::Nothing | Owed::NoMore => None,
        })
    }
}

/// The event at a position of the log.
pub async fn event(log: &EventLog, position: u64) -> Result<Option<event_log::Envelope>, LogError> {
    let checkpoint = log.seek(Target::Position(position)).await?;
    let frames = log.follow(checkpoint).available().await;
    let frames = frames.map_err(|error| LogError::Unavailable(error.to_string()))?;
    let mut events = frames.into_iter().flat_map(|frame| frame.events);
    Ok(events.find(|event| event.position == position))
}

/// Nobody is written to whose row has no address.
fn written_to(mut row: Row, address: &str, values: &Value) -> Result<Option<(Email, Value)>, EffectError> {
    let Some(Value::String(email)) = row.remove(address) else { return Ok(None) };
    let email = Email::parse(&email).map_err(|error| EffectError::Refused(error.to_string()))?;
    let mut values = values.clone();
    if let Value::Object(values) = &mut values {
        values.extend(row);
    }
    Ok(Some((email, values)))
}
