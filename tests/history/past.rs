//! The state of everything at every position of the log, to decide commands in the past.

use std::{borrow::Cow, collections::HashMap};

use domain::{Claim, Command, Context, Event, Kind, State, States, Timestamp};
use event_log::Envelope;
use uuid::Uuid;

use super::{Answer, Attempt, Effect};

type Address = (Kind, Uuid);
/// Values, each from a position on.
type Versions<T> = Vec<(u64, T)>;

#[derive(Default)]
pub struct Past {
    aggregates: HashMap<Address, Versions<State>>,
    holders: HashMap<Claim, Versions<Option<Address>>>,
    /// The first command under a key that had an effect.
    keys: HashMap<(Address, String), (Command, Effect)>,
    times: Vec<Timestamp>,
}

/// What the domain says to a command at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Appends(Vec<Event>),
    Answers(Answer),
}

impl Past {
    pub fn of(log: &[Envelope], attempts: &[Attempt], effects: &HashMap<String, Effect>) -> Self {
        let mut past = Self::default();
        for envelope in log {
            let event = replay::recorded(envelope).unwrap();
            past.fold((event.event.kind(), event.id), &event.event, event.position);
            past.times.push(event.time);
        }
        for attempt in attempts {
            let (Some(effect), Some(key)) = (effects.get(&attempt.correlation), &attempt.key) else {
                continue;
            };
            let name = ((attempt.command.kind(), attempt.id), key.clone());
            let first = past.keys.entry(name).or_insert((attempt.command.clone(), effect.clone()));
            if effect.first < first.1.first {
                *first = (attempt.command.clone(), effect.clone());
            }
        }
        past
    }

    fn fold(&mut self, address: Address, event: &Event, position: u64) {
        let before = at(self.aggregates.get(&address), position).cloned().unwrap_or(address.0.initial());
        let after = before.clone().evolve(event);
        for claim in before.claims() {
            self.holders.entry(claim).or_default().push((position, None));
        }
        for claim in after.claims() {
            self.holders.entry(claim).or_default().push((position, Some(address)));
        }
        self.aggregates.entry(address).or_default().push((position, after));
    }

    /// The answer to a command that sees the log up to `place`; none if it would have written something.
    pub fn answer(&self, attempt: &Attempt, place: u64) -> Option<Answer> {
        match self.decide(attempt, place, &[]) {
            Decision::Answers(answer) => Some(answer),
            Decision::Appends(_) => None,
        }
    }

    /// What the domain says to a command that sees the log up to `place`, and wrote `events` there, if any: their
    /// time is the time that it was decided at.
    pub fn decide(&self, attempt: &Attempt, place: u64, events: &[Event]) -> Decision {
        let address = (attempt.command.kind(), attempt.id);
        let (revision, state) = version(self.aggregates.get(&address), place)
            .map_or((0, address.0.initial()), |(revision, state)| (*revision, state.clone()));
        let known = attempt.key.as_ref().and_then(|key| self.keys.get(&(address, key.clone())));
        if let Some((command, effect)) = known.filter(|(_, effect)| effect.last <= place) {
            return Decision::Answers(match same(command, &attempt.command) {
                true => Answer::Accepted { revision: effect.last, events: effect.types.clone() },
                false => Answer::KeyReused,
            });
        }
        if attempt.if_match.is_some_and(|expected| expected != revision) {
            return Decision::Answers(Answer::RevisionMismatch { actual: revision });
        }
        let time = self.times.get((place as usize).saturating_sub(usize::from(events.is_empty())));
        let states = At { past: self, place };
        let context = Context { now: time.copied().unwrap_or(Timestamp::EARLIEST), states: &states };
        let events = match state.decide(attempt.command.clone(), &context) {
            Err(rejection) => return Decision::Answers(Answer::Rejected(rejection.code.to_owned())),
            Ok(events) if events.is_empty() => {
                return Decision::Answers(Answer::Accepted { revision, events: Vec::new() });
            }
            Ok(events) => events,
        };
        let after = events.iter().fold(state, |state, event| state.evolve(event));
        let taken = after.claims().into_iter().find(|claim| {
            let holder = at(self.holders.get(claim), place).copied().flatten();
            holder.is_some_and(|holder| holder != address)
        });
        match taken {
            Some(claim) => Decision::Answers(Answer::Rejected(claim.taken.code.to_owned())),
            None => Decision::Appends(events),
        }
    }
}

/// All states at one place of the log.
struct At<'a> {
    past: &'a Past,
    place: u64,
}

impl States for At<'_> {
    fn state(&self, kind: Kind, id: Uuid) -> Cow<'_, State> {
        let state = at(self.past.aggregates.get(&(kind, id)), self.place);
        state.map_or_else(|| Cow::Owned(kind.initial()), Cow::Borrowed)
    }
}

fn at<T>(versions: Option<&Versions<T>>, place: u64) -> Option<&T> {
    version(versions, place).map(|(_, value)| value)
}

/// The latest version up to `place`, and since when it is.
fn version<T>(versions: Option<&Versions<T>>, place: u64) -> Option<&(u64, T)> {
    let versions = versions?;
    versions[..versions.partition_point(|(position, _)| *position <= place)].last()
}

fn same(one: &Command, other: &Command) -> bool {
    let ((name, fields), (other_name, other_fields)) = (one.encode(), other.encode());
    name == other_name && fields.get() == other_fields.get()
}
