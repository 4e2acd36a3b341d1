//! What the fold of a view leaves out: the keys whose events could not be applied, and the events that a person
//! decided to do without.

use std::collections::HashMap;

use uuid::Uuid;

/// Whoever folds a view, or compares it with the log, leaves out the same.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Keys of rows, and of aggregates (see [`aggregate_key`]), each with the position of the event that could not
    /// be applied: what happened before counts, what comes after does not.
    held: HashMap<String, u64>,
    /// The keys for which the event at a position does not count.
    skipped: HashMap<u64, Vec<String>>,
}

/// Stands for all events of an aggregate where their rows cannot be told, such as `account:018f…`.
pub fn aggregate_key(kind: &str, id: Uuid) -> String {
    format!("{kind}:{id}")
}

impl LeftOut {
    /// From the event at `position` on.
    pub fn hold(&mut self, key: String, position: u64) {
        self.held.insert(key, position);
    }

    pub fn release(&mut self, key: &str) {
        self.held.remove(key);
    }

    pub fn skip(&mut self, position: u64, key: String) {
        self.skipped.entry(position).or_default().push(key);
    }

    /// How many keys are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.skipped.is_empty()
    }

    /// Whether the event is left out because its key is held back.
    pub fn holds(&self, position: u64, key: &str) -> bool {
        self.held.get(key).is_some_and(|&from| position >= from)
    }

    /// Whether this one event is left out for the key.
    pub fn skips(&self, position: u64, key: &str) -> bool {
        self.skipped.get(&position).is_some_and(|keys| keys.iter().any(|skipped| skipped == key))
    }

    /// Either.
    pub fn leaves_out(&self, position: u64, key: &str) -> bool {
        self.holds(position, key) || self.skips(position, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_back_from_an_event_on_and_an_event_skipped_for_its_key_alone() {
        let mut left_out = LeftOut::default();
        assert!(left_out.is_empty());
        left_out.hold("a".into(), 5);
        left_out.skip(7, "b".into());
        assert!(!left_out.leaves_out(4, "a") && left_out.leaves_out(5, "a") && left_out.leaves_out(6, "a"));
        assert!(left_out.leaves_out(7, "b"));
        assert!(!left_out.leaves_out(8, "b") && !left_out.leaves_out(7, "c"));
        left_out.release("a");
        assert!(!left_out.leaves_out(5, "a"));
    }
}
