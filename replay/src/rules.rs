//! What events must keep to, beyond what every reader of the log checks.

use std::collections::HashMap;

use domain::{Claim, Event, Kind, State};
use event_log::Envelope;
use uuid::Uuid;

/// Folds every aggregate, and notices the event that breaks a rule. Memory grows with the aggregates and
/// their claims, not with the events.
#[derive(Default)]
pub struct Rules {
    aggregates: HashMap<Address, (State, u64)>,
    holders: HashMap<Claim, Address>,
    time: Option<jiff::Timestamp>,
}

type Address = (Kind, Uuid);

impl Rules {
    /// How many aggregates there are so far.
    pub fn aggregates(&self) -> usize {
        self.aggregates.len()
    }

    /// Takes the next event, and says which rules it breaks. One that cannot be decoded (`None`) has its place
    /// in its aggregate's chain all the same.
    pub fn broken_by(&mut self, envelope: &Envelope, event: Option<&Event>) -> Vec<String> {
        let mut problems = Vec::new();
        if self.time.is_some_and(|time| envelope.time < time) {
            problems.push("is earlier than the event before it".to_owned());
        }
        self.time = Some(envelope.time);
        let Some(kind) = event.map_or_else(|| kind_of(&envelope.r#type), |event| Some(event.kind())) else {
            return problems;
        };
        let address = (kind, envelope.subject);
        let (state, revision) = self.aggregates.remove(&address).unwrap_or_else(|| (kind.initial(), 0));
        if envelope.previous != revision {
            let previous = envelope.previous;
            problems.push(format!("names {previous} as its aggregate's previous event, which is {revision}"));
        }
        let state = match event {
            Some(event) => {
                let before = state.claims();
                let state = state.evolve(event);
                let taken = self.move_claims(address, before, state.claims());
                problems.extend(taken.map(|value| format!("takes `{value}`, which another aggregate holds")));
                state
            }
            None => state,
        };
        self.aggregates.insert(address, (state, envelope.position));
        problems
    }

    /// Returns a claim's value, if another aggregate holds it.
    fn move_claims(&mut self, address: Address, before: Vec<Claim>, after: Vec<Claim>) -> Option<String> {
        for claim in before.iter().filter(|claim| !after.contains(claim)) {
            if self.holders.get(claim) == Some(&address) {
                self.holders.remove(claim);
            }
        }
        let mut taken = None;
        for claim in after.into_iter().filter(|claim| !before.contains(claim)) {
            let value = claim.value.clone();
            if self.holders.insert(claim, address).is_some_and(|holder| holder != address) {
                taken = Some(value);
            }
        }
        taken
    }
}

/// The aggregate's kind, which the event's type begins with.
fn kind_of(event_type: &str) -> Option<Kind> {
    let (name, _) = event_type.split_once('.')?;
    Kind::ALL.iter().copied().find(|kind| kind.name() == name)
}
