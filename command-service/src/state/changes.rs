//! What events change in the state, kept apart from it: the changes of a frame before it is certain that the
//! frame is in the log, and those that are in the log and not yet on disk.

use std::sync::Arc;

use domain::{Claim, Kind, State, Timestamp};
use foldhash::{HashMap, HashMapExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::submission::Outcome;

/// Names an aggregate.
pub type Address = (Kind, Uuid);

/// An aggregate's state after its last event.
#[derive(Clone, Debug)]
pub struct Folded {
    pub state: State,
    /// The position of its last event; 0 before the first.
    pub revision: u64,
}

impl Folded {
    /// An aggregate to which nothing has happened.
    pub fn initial((kind, _): Address) -> Arc<Self> {
        Arc::new(Self { state: kind.initial(), revision: 0 })
    }
}

/// What came of a command with an idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyedOutcome {
    pub command_hash: String,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub struct Changes {
    /// The time of the last event.
    pub(super) time: Option<Timestamp>,
    pub(super) aggregates: HashMap<Address, Arc<Folded>>,
    /// Who holds a claim now; none if it was given up.
    pub(super) claims: HashMap<Claim, Option<Address>>,
    pub(super) outcomes: HashMap<(Address, String), KeyedOutcome>,
}

impl Changes {
    /// None yet, with room for as many as those, because growing means hashing every key again.
    pub(super) fn with_room_like(others: &Changes) -> Self {
        Self {
            time: None,
            aggregates: HashMap::with_capacity(others.aggregates.len()),
            claims: HashMap::with_capacity(others.claims.len()),
            outcomes: HashMap::with_capacity(others.outcomes.len()),
        }
    }

    /// Later changes take the place of earlier ones.
    pub(super) fn merge(&mut self, later: Changes) {
        self.time = later.time.or(self.time);
        self.aggregates.extend(later.aggregates);
        self.claims.extend(later.claims);
        self.outcomes.extend(later.outcomes);
    }

    /// How many entries would be written.
    pub(super) fn len(&self) -> usize {
        self.aggregates.len() + self.claims.len() + self.outcomes.len()
    }
}
