//! What the projector says after a commit, and how it says it. The format is the contract with whoever
//! caches rows of a view, so every member is part of it.

mod signaller;

use domain::view::Change as RowChange;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use signaller::Signaller;

/// The subject that a view's signals are published on.
pub fn subject(namespace: &str, view: &str) -> String {
    format!("{namespace}.signals.{view}")
}

/// A message on `<namespace>.signals.<view>`, in JSON. Sent at most once, after the commit it speaks of;
/// when nothing was committed for a quarter of a second, sent again without changes (`previous` equals
/// `position`), so that silence means trouble. A signal whose `previous` is not the `position` of the one
/// before it means that signals in between were lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    pub view: String,
    /// Raised, together with the registry's `views.term`, whenever a projector takes the view over, another build
    /// comes into use, or rows change without the position moving. A signal of a lower term than one before it
    /// is late and says nothing.
    pub term: u64,
    /// The view's position before the commit.
    pub previous: u64,
    /// The view's position after the commit.
    pub position: u64,
    /// A term has begun at `position`. What was heard before says nothing about rows changed
    /// since, so everything known about the view no longer counts.
    #[serde(default)]
    pub reset: bool,
    /// The rows that changed; `null` where [`Signal::everything`] is true.
    pub changes: Option<Vec<Change>>,
    /// Any row may have changed: too many did to be named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everything: bool,
}

/// A row that changed, with the values that queries may find it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The value of the view's key column, as text.
    pub key: String,
    /// The values of the indexed columns, without the key column, before the commit; `null` for a new row.
    pub old: Option<Map<String, Value>>,
    /// The same after the commit; `null` for a row that is gone.
    pub new: Option<Map<String, Value>>,
}

impl Signal {
    /// A term of the view has begun.
    pub(crate) fn reset(view: &str, term: u64, position: u64) -> Self {
        Self { reset: true, ..Self::changed(view, term, position, position, None) }
    }

    /// Nothing has changed since the last signal.
    pub(crate) fn heartbeat(view: &str, term: u64, position: u64) -> Self {
        Self::changed(view, term, position, position, Some(Vec::new()))
    }

    /// These rows changed; without a list, any may have.
    pub(crate) fn changed(
        view: &str,
        term: u64,
        previous: u64,
        position: u64,
        changes: Option<Vec<Change>>,
    ) -> Self {
        let everything = changes.is_none();
        Self { view: view.to_owned(), term, previous, position, reset: false, changes, everything }
    }

    /// The message's payload. Too large for a message of `bytes_max`, it says "everything" instead.
    fn encode(&self, bytes_max: usize) -> Vec<u8> {
        let encoded = |signal: &Self| serde_json::to_vec(signal).expect("a signal has string keys only");
        let payload = encoded(self);
        if payload.len() <= bytes_max {
            return payload;
        }
        let everything = Self::changed(&self.view, self.term, self.previous, self.position, None);
        encoded(&Self { reset: self.reset, ..everything })
    }
}

impl Change {
    /// What a signal says of a changed row.
    pub(crate) fn of(row: &RowChange, indexed: &[String]) -> Self {
        let tags = |row: &Option<Value>| row.as_ref().map(|row| tags(row, indexed));
        Self { key: row.key.clone(), old: tags(&row.before), new: tags(&row.after) }
    }
}

fn tags(row: &Value, indexed: &[String]) -> Map<String, Value> {
    indexed.iter().filter_map(|column| Some((column.clone(), row.get(column)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn renamed() -> Change {
        let row = |name: &str| Some(json!({"id": "1", "name": name, "region": null, "revision": 2}));
        let change = RowChange { key: "1".into(), before: row("ada"), after: row("lovelace") };
        Change::of(&change, &["name".into(), "region".into()])
    }

    fn decode(payload: &[u8]) -> Value {
        serde_json::from_slice(payload).unwrap()
    }

    #[test]
    fn a_change_carries_old_and_new_values_of_the_indexed_columns_alone() {
        let signal = Signal::changed("accounts", 3, 7, 9, Some(vec![renamed()]));
        assert_eq!(
            decode(&signal.encode(1_000)),
            json!({"view": "accounts", "term": 3, "previous": 7, "position": 9, "reset": false, "changes": [
                {"key": "1", "old": {"name": "ada", "region": null}, "new": {"name": "lovelace", "region": null}}
            ]})
        );
    }

    #[test]
    fn a_new_row_has_no_old_values_and_a_vanished_one_no_new() {
        let row = Some(json!({"name": "ada"}));
        let new = RowChange { key: "1".into(), before: None, after: row.clone() };
        let gone = RowChange { key: "1".into(), before: row, after: None };
        let indexed = ["name".to_owned()];
        assert_eq!((Change::of(&new, &indexed).old, Change::of(&gone, &indexed).new), (None, None));
    }

    #[test]
    fn a_signal_too_large_for_a_message_says_that_everything_changed() {
        let signal = Signal::changed("accounts", 3, 7, 9, Some(vec![renamed()]));
        assert_eq!(
            decode(&signal.encode(100)),
            json!({"view": "accounts", "term": 3, "previous": 7, "position": 9, "reset": false, "changes": null,
                   "everything": true})
        );
    }

    #[test]
    fn a_heartbeat_repeats_the_position() {
        let signal = Signal::heartbeat("accounts", 3, 9);
        assert_eq!((signal.previous, signal.position, signal.changes), (9, 9, Some(vec![])));
    }

    #[test]
    fn a_new_term_makes_everything_known_so_far_void() {
        let signal = Signal::reset("accounts", 3, 9);
        assert!(signal.reset && signal.everything && signal.changes.is_none());
    }
}
