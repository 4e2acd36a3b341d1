//! The state that decisions need, folded from the log: the state and revision of each aggregate, who holds
//! which claim, and the outcome of every idempotency key. It lives in memory and is rebuilt at every start.

use std::{borrow::Cow, collections::HashMap};

use domain::{Claim, Event, Kind, State, Timestamp, application::EventError};
use event_log::{Checkpoint, Envelope, Head};
use uuid::Uuid;

use super::submission::Outcome;

/// Names an aggregate.
pub(super) type Address = (Kind, Uuid);

#[derive(Default)]
pub(super) struct Store {
    checkpoint: Checkpoint,
    time: Option<Timestamp>,
    aggregates: HashMap<Address, Folded>,
    claims: HashMap<Claim, Address>,
    outcomes: HashMap<(Address, String), KeyedOutcome>,
}

/// An aggregate's state after its last event.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    pub state: State,
    /// The position of its last event; 0 before the first.
    pub revision: u64,
}

/// What came of a command with an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct KeyedOutcome {
    pub command_hash: String,
    pub outcome: Outcome,
}

/// A frame that this version of the application cannot fold.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("event {position}: {error}")]
    Event { position: u64, error: EventError },
    #[error("event {position} says that the event before it is {previous}, but that is {revision}")]
    BrokenChain { position: u64, previous: u64, revision: u64 },
    #[error("event {position} has no version or a time that cannot be kept")]
    Envelope { position: u64 },
}

impl Store {
    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// The time of the last event.
    pub fn time(&self) -> Timestamp {
        self.time.unwrap_or(Timestamp::EARLIEST)
    }

    /// Folds a frame that was read from the log.
    pub fn apply(&mut self, frame: event_log::Frame) -> Result<(), StoreError> {
        let checkpoint =
            Checkpoint { position: frame.last(), frame_sequence: frame.sequence, frame_id: Some(frame.id) };
        let mut changes = Changes::default();
        for envelope in frame.events {
            changes.replay(self, envelope)?;
        }
        self.merge(changes);
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// Takes over what was decided for a frame, now that the frame is in the log.
    pub fn commit(&mut self, changes: Changes, head: Head) {
        self.merge(changes);
        self.opened(head);
    }

    /// The log now ends at `head`, and nothing that a state is made of was added.
    pub fn opened(&mut self, head: Head) {
        self.checkpoint = head.into();
    }

    fn merge(&mut self, changes: Changes) {
        self.time = changes.time.or(self.time);
        self.aggregates.extend(changes.aggregates);
        self.outcomes.extend(changes.outcomes);
        for (claim, holder) in changes.claims {
            match holder {
                Some(holder) => self.claims.insert(claim, holder),
                None => self.claims.remove(&claim),
            };
        }
    }
}

/// What events change in a store, before it is certain that they are in the log.
#[derive(Default)]
pub(super) struct Changes {
    time: Option<Timestamp>,
    aggregates: HashMap<Address, Folded>,
    claims: HashMap<Claim, Option<Address>>,
    outcomes: HashMap<(Address, String), KeyedOutcome>,
}

impl Changes {
    pub fn aggregate<'a>(&'a self, store: &'a Store, address: Address) -> Cow<'a, Folded> {
        let known = self.aggregates.get(&address).or_else(|| store.aggregates.get(&address));
        known.map_or_else(|| Cow::Owned(Folded { state: address.0.initial(), revision: 0 }), Cow::Borrowed)
    }

    pub fn holder(&self, store: &Store, claim: &Claim) -> Option<Address> {
        self.claims.get(claim).copied().unwrap_or_else(|| store.claims.get(claim).copied())
    }

    pub fn outcome<'a>(&'a self, store: &'a Store, address: Address, key: &str) -> Option<&'a KeyedOutcome> {
        let name = (address, key.to_owned());
        self.outcomes.get(&name).or_else(|| store.outcomes.get(&name))
    }

    /// An aggregate came into a new state: its claims move with it.
    pub fn put(&mut self, store: &Store, address: Address, folded: Folded, time: Timestamp) {
        let before = self.aggregate(store, address).state.claims();
        let after = folded.state.claims();
        for claim in before.iter().filter(|claim| !after.contains(claim)) {
            self.claims.insert(claim.clone(), None);
        }
        for claim in after {
            self.claims.insert(claim, Some(address));
        }
        self.aggregates.insert(address, folded);
        self.time = Some(time);
    }

    pub fn put_outcome(&mut self, address: Address, key: String, outcome: KeyedOutcome) {
        self.outcomes.insert((address, key), outcome);
    }

    fn replay(&mut self, store: &Store, envelope: Envelope) -> Result<(), StoreError> {
        let position = envelope.position;
        let version = envelope.version().ok_or(StoreError::Envelope { position })?;
        let time = Timestamp::try_from(envelope.time).map_err(|_| StoreError::Envelope { position })?;
        let event = Event::decode(&envelope.r#type, version, envelope.data.get())
            .map_err(|error| StoreError::Event { position, error })?;
        let address = (event.kind(), envelope.subject);
        let folded = self.aggregate(store, address).into_owned();
        if folded.revision != envelope.previous {
            let (previous, revision) = (envelope.previous, folded.revision);
            return Err(StoreError::BrokenChain { position, previous, revision });
        }
        let folded = Folded { state: folded.state.evolve(&event), revision: position };
        self.put(store, address, folded, time);
        if let (Some(key), Some(command_hash)) = (envelope.idempotencykey, envelope.commandhash) {
            self.replay_outcome(address, key, command_hash, envelope.r#type, envelope.previous, position);
        }
        Ok(())
    }

    /// The events of one command carry its key; together they tell what came of it.
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
        let keyed = self.outcomes.entry((address, key)).or_insert(KeyedOutcome { command_hash, outcome });
        keyed.outcome.revision = position;
        keyed.outcome.events.push(event_type);
        keyed.outcome.is_created |= previous == 0;
    }
}
