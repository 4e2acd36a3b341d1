//! What events owe, worked out without asking anybody: events in, tasks and cancellations out.

use std::collections::BTreeMap;

use domain::{
    Kind, Recorded, Timestamp, UnreadableEvent,
    policy::{Definition, Owed, Task},
};
use event_log::Envelope;
use uuid::Uuid;

use crate::queue::{QueuedTask, TASKS_MAX, TaskId};

/// What is to be done to the queue before its progress moves on.
#[derive(Debug, Default)]
pub struct Plan {
    /// New tasks, each with the time before which it is not to be done.
    pub tasks: Vec<(QueuedTask, Option<Timestamp>)>,
    /// What is owed no more, because of earlier events: policy and aggregate.
    pub cancelled: Vec<(&'static str, Uuid)>,
}

impl Plan {
    /// Whether the next event may owe more than fits.
    pub fn is_full(&self, policies: usize) -> bool {
        self.tasks.len() + policies > TASKS_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.cancelled.is_empty()
    }

    /// Adds what an event owes by those of the policies that have not seen it yet, and notes that they have.
    pub fn add(&mut self, envelope: &Envelope, policies: &[Definition], seen: &mut BTreeMap<String, u64>) {
        let kind = envelope.r#type.split_once('.').and_then(|(kind, _)| Kind::from_name(kind));
        let mut recorded = None;
        for policy in policies {
            let Some(seen) = seen.get_mut(policy.name).filter(|seen| **seen < envelope.position) else {
                continue;
            };
            *seen = envelope.position;
            if !kind.is_some_and(|kind| policy.aggregates.contains(&kind)) {
                continue;
            }
            match recorded.get_or_insert_with(|| read(envelope)) {
                Ok(recorded) => match (policy.owed)(recorded) {
                    Owed::Nothing => {}
                    Owed::Task(task) => self.tasks.push(queued(policy, envelope, recorded.time, task)),
                    Owed::NoMore => self.cancel(policy.name, envelope.subject),
                },
                // Whoever does the task reads the event again; as long as that fails, it is a dead letter.
                Err(error) => {
                    tracing::error!(policy = policy.name, "what an event owes cannot be told: {error}");
                    self.tasks.push((undecided(policy, envelope), None));
                }
            }
        }
    }

    fn cancel(&mut self, policy: &'static str, aggregate: Uuid) {
        self.tasks.retain(|(task, _)| task.id.policy != policy || task.id.aggregate != aggregate);
        self.cancelled.push((policy, aggregate));
    }
}

/// The event of an envelope, as policies take it.
pub fn read(envelope: &Envelope) -> Result<Recorded, UnreadableEvent> {
    let Envelope { position, time, subject, r#type, data, .. } = envelope;
    Recorded::read(*position, *time, *subject, r#type, envelope.version(), data.get())
}

fn queued(
    policy: &Definition,
    envelope: &Envelope,
    event_time: Timestamp,
    task: Task,
) -> (QueuedTask, Option<Timestamp>) {
    // What may be done at once goes at once.
    let not_before = task.not_before.filter(|time| *time > event_time);
    let deadline = policy.deadline(not_before.unwrap_or(event_time));
    let queued = QueuedTask {
        id: id(policy, envelope),
        event_time,
        deadline,
        effect: Some(task.effect),
        attempts: 0,
        error: None,
        traceparent: envelope.traceparent.clone(),
    };
    (queued, not_before)
}

fn undecided(policy: &Definition, envelope: &Envelope) -> QueuedTask {
    let event_time = Timestamp::try_from(envelope.time).unwrap_or(Timestamp::EARLIEST);
    QueuedTask {
        id: id(policy, envelope),
        event_time,
        deadline: policy.deadline(event_time),
        effect: None,
        attempts: 0,
        error: None,
        traceparent: envelope.traceparent.clone(),
    }
}

fn id(policy: &Definition, envelope: &Envelope) -> TaskId {
    TaskId { policy: policy.name.to_owned(), aggregate: envelope.subject, position: envelope.position }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use domain::policies;

    const ADA: Uuid = Uuid::from_u128(0xada);

    fn envelope(position: u64, event_type: &str, data: &Value) -> Envelope {
        serde_json::from_value(json!({
            "specversion": "1.0", "id": position.to_string(), "source": "/test", "type": event_type,
            "subject": ADA, "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
            "dataschema": Envelope::schema(event_type, 1), "data": data,
            "position": position.to_string(), "previous": "0",
        }))
        .unwrap()
    }

    fn registered(position: u64) -> Envelope {
        envelope(position, "account.registered", &json!({"email": "ada@example.org", "username": "ada"}))
    }

    fn plan(events: &[Envelope], seen: &mut BTreeMap<String, u64>) -> Plan {
        let mut plan = Plan::default();
        for event in events {
            plan.add(event, policies::ALL, seen);
        }
        plan
    }

    fn seen(position: u64) -> BTreeMap<String, u64> {
        policies::ALL.iter().map(|policy| (policy.name.to_owned(), position)).collect()
    }

    #[test]
    fn an_event_owes_each_policy_once() {
        let mut seen = seen(0);
        assert_eq!(plan(&[registered(1)], &mut seen).tasks.len(), 1);
        assert_eq!(plan(&[registered(1)], &mut seen).tasks.len(), 0);
        assert!(seen.values().all(|position| *position == 1));
    }

    #[test]
    fn a_policy_owes_nothing_for_what_was_before_its_start() {
        let plan = plan(&[registered(7), registered(8)], &mut seen(7));
        let positions: Vec<u64> = plan.tasks.iter().map(|(task, _)| task.id.position).collect();
        assert_eq!(positions, [8]);
    }

    #[test]
    fn a_policy_that_has_not_started_owes_nothing() {
        let plan = plan(&[registered(1)], &mut BTreeMap::new());
        assert!(plan.is_empty());
    }

    #[test]
    fn what_is_cancelled_in_the_same_plan_never_gets_into_the_queue() {
        let closed = envelope(2, "account.closed", &json!({}));
        let plan = plan(&[registered(1), closed], &mut seen(0));
        assert_eq!((plan.tasks.len(), plan.cancelled.as_slice()), (0, [("welcome-email", ADA)].as_slice()));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_a_task_without_an_effect() {
        let plan = plan(&[envelope(1, "account.exploded", &json!({}))], &mut seen(0));
        let [(task, None)] = plan.tasks.as_slice() else { panic!("{:?}", plan.tasks) };
        assert_eq!((task.id.policy.as_str(), &task.effect), ("welcome-email", &None));
    }

    #[test]
    fn a_task_has_its_deadline_from_the_event() {
        let plan = plan(&[registered(1)], &mut seen(0));
        let (task, _) = &plan.tasks[0];
        let within = policies::ALL[0].within_seconds;
        assert_eq!(task.deadline.micros() - task.event_time.micros(), i64::from(within) * 1_000_000);
    }
}
