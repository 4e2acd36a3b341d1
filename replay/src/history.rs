//! What happened to one aggregate: its events, each with what it changed of the aggregate's state.

use anyhow::{Context, Result};
use domain::{Kind, State};
use event_log::{Envelope, Target};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    moment,
    reading::{Events, Source, recorded},
};

/// An event of an aggregate, and the aggregate's state before and after it.
#[derive(Debug)]
pub struct Happening {
    pub event: Envelope,
    pub before: Value,
    pub after: Value,
}

/// Calls `show` with everything that happened to an aggregate from `from` on, and returns how much that was. The states
/// are folded from its first event on in any case.
pub async fn history(
    source: &Source,
    kind: Kind,
    id: Uuid,
    from: Option<Target>,
    mut show: impl FnMut(Happening) -> Result<()>,
) -> Result<usize> {
    let prefix = format!("{}.", kind.name());
    let end = source.log.head().await?.position;
    let mut events = Events::from_start(source);
    let mut state = kind.initial();
    let mut shown = 0;
    while let Some(event) = events.up_to(end).await? {
        if event.subject != id || !event.r#type.starts_with(&prefix) {
            continue;
        }
        let before = as_json(&state)?;
        // What cannot be read changes nothing that could be told.
        if let Ok(recorded) = recorded(&event) {
            state = state.evolve(&recorded.event);
        }
        if from.is_none_or(|from| moment::is_reached(from, &event)) {
            shown += 1;
            show(Happening { event, before, after: as_json(&state)? })?;
        }
    }
    Ok(shown)
}

fn as_json(state: &State) -> Result<Value> {
    serde_json::from_slice(&state.encode()).context("a state that is no JSON")
}

impl Happening {
    /// On one line: the event as a CloudEvent, and the states.
    pub fn to_json(&self) -> Result<String> {
        let event = serde_json::to_value(&self.event)?;
        Ok(json!({"event": event, "before": self.before, "after": self.after}).to_string())
    }

    /// What changed, a line each: `email: "ada@example.org" → "lovelace@example.org"`.
    pub fn changes(&self) -> Vec<String> {
        let ((was, before), (is, after)) = (parts(&self.before), parts(&self.after));
        let mut lines = Vec::new();
        if was != is {
            lines.push(format!("{was} → {is}"));
        }
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        let value = |fields: &Map<String, Value>, name: &str| {
            fields.get(name).map_or("–".to_owned(), Value::to_string)
        };
        let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        lines
            .extend(differ.map(|name| format!("{name}: {} → {}", value(&before, name), value(&after, name))));
        lines
    }
}

/// A state's name and its fields, as enums are written: `"closed"` or `{"active": {…}}`.
fn parts(state: &Value) -> (String, Map<String, Value>) {
    match state {
        Value::String(name) => (name.clone(), Map::new()),
        Value::Object(object) => match (object.len(), object.iter().next()) {
            (1, Some((name, Value::Object(fields)))) => (name.clone(), fields.clone()),
            _ => (String::new(), object.clone()),
        },
        other => (other.to_string(), Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: Value, after: Value) -> Vec<String> {
        let event = json!({"specversion": "1.0", "id": "1", "source": "/test", "type": "account.closed",
            "subject": Uuid::nil(), "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
            "dataschema": "urn:headwater:account.closed:1", "data": {}, "position": "1", "previous": "0"});
        Happening { event: serde_json::from_str(&event.to_string()).unwrap(), before, after }.changes()
    }

    #[test]
    fn what_changed_is_the_state_and_its_fields() {
        let active = |email: &str| json!({"active": {"email": email, "username": "ada"}});
        assert_eq!(changes(active("a@b.org"), active("c@d.org")), [r#"email: "a@b.org" → "c@d.org""#]);
        let closed = changes(active("a@b.org"), json!("closed"));
        assert_eq!(closed, ["active → closed", r#"email: "a@b.org" → –"#, r#"username: "ada" → –"#]);
        assert!(changes(json!("closed"), json!("closed")).is_empty());
    }
}
