//! The log, folded so that any moment of it can be looked at.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use domain::{Claim, Event, Kind, State, States, Timestamp};
use event_log::Envelope;
use uuid::Uuid;

use super::{Rule, Violation};

/// Names an aggregate.
pub type Address = (Kind, Uuid);

/// What one command did: events that stand side by side in the log.
#[derive(Debug)]
pub struct Effect {
    /// The attempt that had it.
    pub attempt: Uuid,
    pub address: Address,
    pub key: Option<String>,
    pub events: Vec<Event>,
    pub types: Vec<String>,
    pub first: u64,
    pub last: u64,
    /// The aggregate's revision before it.
    pub previous: u64,
    pub time: Timestamp,
}

impl Effect {
    /// Nothing had happened to the aggregate before.
    pub fn is_first(&self) -> bool {
        self.previous == 0
    }
}

/// What something was from which position on, the latest last.
type Changes<T> = Vec<(u64, T)>;

pub struct Past {
    /// Up to where it is settled: no moment before it can be looked at any more.
    settled: (u64, Timestamp),
    /// Since then.
    effects: Vec<Arc<Effect>>,
    by_attempt: HashMap<Uuid, Arc<Effect>>,
    /// From the beginning.
    by_key: HashMap<(Address, String), Arc<Effect>>,
    aggregates: HashMap<Address, Changes<State>>,
    holders: HashMap<Claim, Changes<Option<Address>>>,
    doubled: Vec<Violation>,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            settled: (0, Timestamp::EARLIEST),
            effects: Vec::new(),
            by_attempt: HashMap::new(),
            by_key: HashMap::new(),
            aggregates: HashMap::new(),
            holders: HashMap::new(),
            doubled: Vec::new(),
        }
    }
}

impl Past {
    /// Folds all events of a log, and tells what is wrong with the log itself.
    pub fn fold(log: &[Envelope]) -> (Self, Vec<Violation>) {
        let mut past = Self::default();
        let violations = past.go_on(log);
        (past, violations)
    }

    /// Folds the events that follow. What comes after an event that cannot be read is not folded.
    pub fn go_on(&mut self, log: &[Envelope]) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut effects = Vec::new();
        for (envelope, due) in log.iter().zip(self.end() + 1..) {
            if envelope.position != due {
                let what = format!("position {} stands where {due} is due", envelope.position);
                violations.push(Violation::new(Rule::Chain, what));
                break;
            }
            if let Err(violation) = self.take(envelope, &mut effects) {
                violations.push(violation);
                break;
            }
        }
        effects.into_iter().for_each(|effect| self.remember(Arc::new(effect)));
        violations
    }

    /// From now on no moment before this one is looked at: what is remembered is each aggregate as it is now, and
    /// what was done under each key.
    pub fn settle(&mut self) {
        if let Some(last) = self.effects.last() {
            self.settled = (last.last, last.time);
        }
        self.effects.clear();
        self.by_attempt.clear();
        self.aggregates.values_mut().for_each(keep_last);
        self.holders.values_mut().for_each(keep_last);
        self.holders.retain(|_, changes| changes.iter().any(|(_, holder)| holder.is_some()));
    }

    /// Up to where it is settled, and when that was.
    pub fn settled(&self) -> (u64, Timestamp) {
        self.settled
    }

    /// The position of the last event.
    pub fn end(&self) -> u64 {
        self.effects.last().map_or(self.settled.0, |effect| effect.last)
    }

    /// Those that are not settled, in the order of the log.
    pub fn effects(&self) -> &[Arc<Effect>] {
        &self.effects
    }

    pub fn effect_of(&self, attempt: Uuid) -> Option<&Effect> {
        self.by_attempt.get(&attempt).map(|effect| &**effect)
    }

    /// What was done under a key.
    pub fn keyed(&self, address: Address, key: &str) -> Option<&Effect> {
        self.by_key.get(&(address, key.to_owned())).map(|effect| &**effect)
    }

    /// Attempts and keys that have more than one effect.
    pub fn doubled(&self) -> Vec<Violation> {
        self.doubled.iter().map(|violation| Violation::new(violation.rule, &violation.what)).collect()
    }

    /// An aggregate's state and revision after the event at `position`.
    pub fn aggregate(&self, address: Address, position: u64) -> (Cow<'_, State>, u64) {
        match self.aggregates.get(&address).and_then(|changes| latest(changes, position)) {
            Some((revision, state)) => (Cow::Borrowed(state), *revision),
            None => (Cow::Owned(address.0.initial()), 0),
        }
    }

    /// Who holds a claim after the event at `position`.
    pub fn holder(&self, claim: &Claim, position: u64) -> Option<Address> {
        let (_, holder) = latest(self.holders.get(claim)?, position)?;
        *holder
    }

    fn take(&mut self, envelope: &Envelope, effects: &mut Vec<Effect>) -> Result<(), Violation> {
        let position = envelope.position;
        let unreadable = |why: &str| Violation::new(Rule::Chain, format!("the event at {position}: {why}"));
        let version = envelope.version().ok_or_else(|| unreadable("no version"))?;
        let time = Timestamp::try_from(envelope.time).map_err(|error| unreadable(&error.to_string()))?;
        let event = Event::decode(&envelope.r#type, version, envelope.data.get());
        let event = event.map_err(|error| unreadable(&error.to_string()))?;
        let attempt = envelope.correlationid.as_deref().and_then(|id| id.parse().ok());
        let attempt = attempt.ok_or_else(|| unreadable("nobody's"))?;

        let address = (event.kind(), envelope.subject);
        let (before, revision) = self.aggregate(address, position);
        if revision != envelope.previous {
            let previous = envelope.previous;
            return Err(unreadable(&format!("it follows on {previous}, but its aggregate is at {revision}")));
        }
        let before = before.into_owned();
        let after = before.clone().evolve(&event);
        self.move_claims(address, before.claims(), after.claims(), position);
        self.aggregates.entry(address).or_default().push((position, after));

        match effects.last_mut() {
            Some(effect) if (effect.attempt, effect.address) == (attempt, address) => {
                effect.last = position;
                effect.types.push(envelope.r#type.clone());
                effect.events.push(event);
            }
            _ => effects.push(Effect {
                attempt,
                address,
                key: envelope.idempotencykey.clone(),
                events: vec![event],
                types: vec![envelope.r#type.clone()],
                first: position,
                last: position,
                previous: revision,
                time,
            }),
        }
        Ok(())
    }

    fn move_claims(&mut self, address: Address, before: Vec<Claim>, after: Vec<Claim>, position: u64) {
        for claim in before.into_iter().filter(|claim| !after.contains(claim)) {
            self.holders.entry(claim).or_default().push((position, None));
        }
        for claim in after {
            self.holders.entry(claim).or_default().push((position, Some(address)));
        }
    }

    fn remember(&mut self, effect: Arc<Effect>) {
        let second = |of: &str| Violation::new(Rule::Once, format!("{of} second effect: {effect:?}"));
        match self.by_attempt.entry(effect.attempt) {
            Entry::Vacant(entry) => _ = entry.insert(effect.clone()),
            Entry::Occupied(_) => self.doubled.push(second("an attempt's")),
        }
        if let Some(key) = effect.key.clone() {
            match self.by_key.entry((effect.address, key)) {
                Entry::Vacant(entry) => _ = entry.insert(effect.clone()),
                Entry::Occupied(_) => self.doubled.push(second("a key's")),
            }
        }
        self.effects.push(effect);
    }
}

/// All states as they were after the event at a position.
pub struct Moment<'a> {
    pub past: &'a Past,
    pub position: u64,
}

impl States for Moment<'_> {
    fn state(&self, kind: Kind, id: Uuid) -> Cow<'_, State> {
        self.past.aggregate((kind, id), self.position).0
    }
}

fn keep_last<T>(changes: &mut Changes<T>) {
    changes.drain(..changes.len().saturating_sub(1));
}

/// The last change at or before a position.
fn latest<T>(changes: &Changes<T>, position: u64) -> Option<&(u64, T)> {
    changes[..changes.partition_point(|(at, _)| *at <= position)].last()
}
