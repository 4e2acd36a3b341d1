//! What a session holds back: the events of keys in quarantine, and those that a person has decided to skip.

use std::collections::BTreeMap;

use domain::{
    Recorded,
    view::{LeftOut, aggregate_key},
};
use sqlx::PgConnection;

use super::{batch::Unreadable, error::ViewError};
use crate::quarantine;

/// More keys than this in quarantine are no poisoned events but a program that is wrong.
const KEYS_MAX: usize = 10_000;

/// A copy of what the database says, and what has yet to be told to it.
#[derive(Debug, Default)]
pub struct Held {
    left_out: LeftOut,
    /// Events held back since the last commit.
    counted: BTreeMap<String, u64>,
}

impl Held {
    pub async fn load(connection: &mut PgConnection, view: &str, build: i32) -> Result<Self, ViewError> {
        let mut held = Self::default();
        for (position, key) in quarantine::keys(connection, view, build).await? {
            held.put(key, position)?;
        }
        for (position, key) in quarantine::skipped(connection, view).await? {
            held.left_out.skip(position, key);
        }
        Ok(held)
    }

    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// How many keys are in quarantine.
    pub fn len(&self) -> usize {
        self.left_out.held()
    }

    /// Holds the key back from the event at `position` on.
    pub fn put(&mut self, key: String, position: u64) -> Result<(), ViewError> {
        if self.len() >= KEYS_MAX {
            return Err(ViewError::TooManyQuarantined { keys: self.len() });
        }
        self.left_out.hold(key, position);
        Ok(())
    }

    pub fn release(&mut self, key: &str) {
        self.left_out.release(key);
    }

    /// Whether the event is left out with its whole aggregate. If it is held back, it is counted.
    pub fn leaves_out_aggregate(&mut self, recorded: &Recorded) -> bool {
        // Most views hold back nothing, and need no key to be made.
        if self.left_out.is_empty() {
            return false;
        }
        let key = aggregate_key(recorded.event.kind().name(), recorded.id);
        self.leaves_out(&key, recorded.position)
    }

    /// The same for an event that cannot be read.
    pub fn leaves_out_unreadable(&mut self, unreadable: &Unreadable) -> bool {
        self.leaves_out(&unreadable.aggregate_key, unreadable.position)
    }

    /// Whether the event is left out for the row with this key. If it is held back, it is counted.
    pub fn leaves_out(&mut self, key: &str, position: u64) -> bool {
        if self.left_out.is_empty() {
            return false;
        }
        if self.left_out.holds(position, key) {
            *self.counted.entry(key.to_owned()).or_default() += 1;
            return true;
        }
        self.left_out.skips(position, key)
    }

    /// What was counted since this was last asked.
    pub fn take_counted(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.counted).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use domain::{Event, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn closed(id: u128, position: u64) -> Recorded {
        Recorded {
            position,
            time: Timestamp::EARLIEST,
            id: Uuid::from_u128(id),
            event: Event::decode("account.closed", 1, "{}").unwrap(),
        }
    }

    #[test]
    fn what_is_held_back_is_counted_and_what_is_skipped_is_not() {
        let mut held = Held::default();
        held.put(aggregate_key("account", Uuid::from_u128(1)), 7).unwrap();
        held.left_out.skip(9, "a".into());
        assert!(held.leaves_out_aggregate(&closed(1, 7)) && !held.leaves_out_aggregate(&closed(2, 8)));
        assert!(held.leaves_out("a", 9) && !held.leaves_out("a", 10));
        assert_eq!(held.counted.values().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn quarantine_has_a_bound() {
        let mut held = Held::default();
        for key in 0..KEYS_MAX {
            held.put(key.to_string(), 1).unwrap();
        }
        assert!(matches!(held.put("one more".into(), 1), Err(ViewError::TooManyQuarantined { .. })));
    }
}
