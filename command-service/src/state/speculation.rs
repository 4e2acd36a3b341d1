//! The state as it will be if what has been decided, or read, so far comes to stay.

use std::sync::Arc;

use domain::{Claim, Recorded, Timestamp};
use event_log::Envelope;

use super::{
    changes::{Address, Changes, Folded, KeyedOutcome},
    store::{Store, StoreError},
};
use crate::submission::Outcome;

/// A store, and changes that do not touch it until they are merged.
pub struct Speculation<'a> {
    store: &'a Store,
    changes: Changes,
}

impl<'a> Speculation<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self::on(store, Changes::default())
    }

    /// Goes on from changes that the store does not know.
    pub(super) fn on(store: &'a Store, changes: Changes) -> Self {
        Self { store, changes }
    }

    pub fn finish(self) -> Changes {
        self.changes
    }

    /// An aggregate; in its initial state if nothing has happened to it.
    pub fn aggregate(&self, address: Address) -> Result<Arc<Folded>, StoreError> {
        match self.changes.aggregates.get(&address) {
            Some(folded) => Ok(folded.clone()),
            None => self.store.aggregate(address),
        }
    }

    pub fn holder(&self, claim: &Claim) -> Result<Option<Address>, StoreError> {
        match self.changes.claims.get(claim) {
            Some(holder) => Ok(*holder),
            None => self.store.holder(claim),
        }
    }

    pub fn outcome(&self, address: Address, key: &str) -> Result<Option<KeyedOutcome>, StoreError> {
        let name = (address, key.to_owned());
        match self.changes.outcomes.get(&name) {
            Some(outcome) => Ok(Some(outcome.clone())),
            None => self.store.outcome(name),
        }
    }

    /// An aggregate came into a new state: its claims move with it.
    pub fn put(&mut self, address: Address, before: &Folded, after: Folded, time: Timestamp) {
        let (given_up, held) = (before.state.claims(), after.state.claims());
        for claim in given_up {
            if !held.contains(&claim) {
                self.changes.claims.insert(claim, None);
            }
        }
        for claim in held {
            self.changes.claims.insert(claim, Some(address));
        }
        self.changes.aggregates.insert(address, Arc::new(after));
        self.changes.time = Some(time);
    }

    pub fn put_outcome(&mut self, address: Address, key: String, outcome: KeyedOutcome) {
        self.changes.outcomes.insert((address, key), outcome);
    }

    /// Folds an event that was read from the log.
    pub fn replay(&mut self, envelope: Envelope) -> Result<(), StoreError> {
        let position = envelope.position;
        let Envelope { time, subject, r#type, data, .. } = &envelope;
        let Recorded { event, time, .. } =
            Recorded::read(position, *time, *subject, r#type, envelope.version(), data.get())?;
        let address = (event.kind(), envelope.subject);
        // The first event of an aggregate follows on nothing that the disk could know.
        let before = match envelope.previous {
            0 => self.changes.aggregates.get(&address).cloned().unwrap_or_else(|| Folded::initial(address)),
            _ => self.aggregate(address)?,
        };
        if before.revision != envelope.previous {
            let (previous, revision) = (envelope.previous, before.revision);
            return Err(StoreError::BrokenChain { position, previous, revision });
        }
        let after = Folded { state: before.state.clone().evolve(&event), revision: position };
        self.put(address, &before, after, time);
        if let (Some(key), Some(command_hash)) = (envelope.idempotencykey, envelope.commandhash) {
            self.replay_outcome(address, key, command_hash, envelope.r#type, envelope.previous, position);
        }
        Ok(())
    }

    /// The events of one command carry its key, and are in one frame; together they tell what came of it.
    fn replay_outcome(
        &mut self,
        address: Address,
        key: String,
        command_hash: String,
        event_type: String,
        previous: u64,
        position: u64,
    ) {
        let outcome = Outcome { revision: 0, events: Vec::new(), is_created: false };
        let keyed =
            self.changes.outcomes.entry((address, key)).or_insert(KeyedOutcome { command_hash, outcome });
        keyed.outcome.revision = position;
        keyed.outcome.events.push(event_type);
        keyed.outcome.is_created |= previous == 0;
    }
}
