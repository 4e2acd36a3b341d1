//! Whether what clients were told is what the log's order implies: strict serializability, checked from outside.
//!
//! Every command has a place in the log's order: one with events just before its first event, one without between
//! two events. The history is right if each command, decided by the pure domain at its place, gives the answer that
//! its client got, and if places do not contradict real time: a command that was answered before another was sent
//! has an earlier place.
//!
//! The places of commands with events are known from the log. Those of the others are searched for, in the order in
//! which they were sent, each the earliest one that fits. That is enough: a place only has to be late enough for
//! what was answered before, so an earlier place never takes one away from a later command.

mod past;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use domain::{Command, Event};
use event_log::Envelope;
use uuid::Uuid;

use past::{Decision, Past};

/// One request, as its client saw it. Times are since the start of the history.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Names this attempt in the log.
    pub correlation: String,
    pub id: Uuid,
    pub command: Command,
    pub key: Option<String>,
    pub if_match: Option<u64>,
    pub sent: Duration,
    /// When the answer was there, and what it said; none if there was no answer, or none that told the outcome.
    pub answered: Option<(Duration, Answer)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted {
        revision: u64,
        events: Vec<String>,
    },
    Rejected(String),
    RevisionMismatch {
        actual: u64,
    },
    KeyReused,
    /// Not now, and certainly without effect.
    WithoutEffect,
}

/// What an attempt wrote.
#[derive(Clone, Debug, PartialEq)]
struct Effect {
    first: u64,
    last: u64,
    types: Vec<String>,
    events: Vec<Event>,
}

/// What is wrong with the history; nothing, if it is strictly serializable.
pub fn violations(attempts: &[Attempt], log: &[Envelope]) -> Vec<String> {
    let mut found = Vec::new();
    let effects = effects(attempts, log, &mut found);
    let past = Past::of(log, attempts, &effects);
    let mut history = History { effects, past, positions: log.len() as u64, found };
    for attempt in attempts {
        history.check_effect(attempt);
    }
    history.check_order(attempts);
    history.found
}

/// What each attempt wrote, by correlation. The log names the attempt of each event.
fn effects(attempts: &[Attempt], log: &[Envelope], found: &mut Vec<String>) -> HashMap<String, Effect> {
    let known: HashMap<&str, &Attempt> =
        attempts.iter().map(|attempt| (attempt.correlation.as_str(), attempt)).collect();
    let mut effects: HashMap<String, Effect> = HashMap::new();
    for (index, envelope) in log.iter().enumerate() {
        let position = envelope.position;
        if position != index as u64 + 1 {
            found.push(format!("position {position} stands at place {}", index + 1));
        }
        let Some(attempt) = envelope.correlationid.as_deref().and_then(|correlation| known.get(correlation))
        else {
            found.push(format!("nobody sent a command that caused event {position}"));
            continue;
        };
        let event = replay::recorded(envelope).unwrap().event;
        let is_theirs = attempt.id == envelope.subject
            && attempt.command.kind() == event.kind()
            && (attempt.key.is_none() || attempt.key == envelope.idempotencykey);
        if !is_theirs {
            found.push(format!("event {position} does not fit the command that caused it: {attempt:?}"));
        }
        let effect = effects.entry(attempt.correlation.clone()).or_insert_with(|| Effect {
            first: position,
            last: position - 1,
            types: Vec::new(),
            events: Vec::new(),
        });
        if effect.last + 1 != position {
            found.push(format!("{attempt:?} has an effect at {} and again at {position}", effect.first));
        }
        effect.last = position;
        effect.types.push(envelope.r#type.clone());
        effect.events.push(event);
    }
    effects
}

struct History {
    effects: HashMap<String, Effect>,
    past: Past,
    positions: u64,
    found: Vec<String>,
}

impl History {
    /// Whether an attempt had the effect that its client was told, and one that follows from what was before.
    fn check_effect(&mut self, attempt: &Attempt) {
        let answer = attempt.answered.as_ref().map(|(_, answer)| answer);
        let Some(effect) = self.effects.get(&attempt.correlation) else { return };
        let decided = self.past.decide(attempt, effect.first - 1, &effect.events);
        if decided != Decision::Appends(effect.events.clone()) {
            self.found.push(format!(
                "{attempt:?} wrote {:?} at {}, where the domain says {decided:?}",
                effect.types, effect.first
            ));
        }
        let told = Answer::Accepted { revision: effect.last, events: effect.types.clone() };
        if answer.is_some_and(|answer| *answer != told) {
            self.found.push(format!("{attempt:?} wrote {:?} at {}", effect.types, effect.first));
        }
    }

    /// Whether all attempts have places in the log's order that do not contradict real time.
    fn check_order(&mut self, attempts: &[Attempt]) {
        let bounds = self.upper_bounds(attempts);
        let mut by_sent: Vec<&Attempt> = attempts.iter().collect();
        by_sent.sort_by_key(|attempt| attempt.sent);
        // Who was answered when, and at which place.
        let mut answered: BTreeMap<(Duration, usize), u64> = BTreeMap::new();
        let mut floor = 0;
        for (index, attempt) in by_sent.into_iter().enumerate() {
            while let Some(first) = answered.first_entry()
                && first.key().0 < attempt.sent
            {
                floor = floor.max(first.remove());
            }
            let Some(place) = self.place(attempt, floor, &bounds) else { continue };
            if let Some((at, _)) = &attempt.answered {
                answered.insert((*at, index), place);
            }
        }
    }

    /// The position up to which the attempt saw the log, or itself wrote it. None if it has no place, because it
    /// had no effect, or because it has none that is right, which is noted.
    fn place(&mut self, attempt: &Attempt, floor: u64, bounds: &[(Duration, u64)]) -> Option<u64> {
        if let Some(effect) = self.effects.get(&attempt.correlation) {
            if effect.first <= floor {
                let message = format!(
                    "{attempt:?} wrote at {}, before position {floor}, which was known when it was sent",
                    effect.first
                );
                self.found.push(message);
            }
            return Some(effect.last);
        }
        let (at, answer) = attempt.answered.as_ref()?;
        if *answer == Answer::WithoutEffect {
            return None;
        }
        let upper = match bounds.partition_point(|(sent, _)| sent <= at) {
            after if after < bounds.len() => bounds[after].1,
            _ => self.positions,
        };
        let place = (floor..=upper).find(|place| self.past.answer(attempt, *place).as_ref() == Some(answer));
        if place.is_none() {
            let (first, last) = (self.past.answer(attempt, floor), self.past.answer(attempt, upper));
            self.found.push(format!(
                "{attempt:?} fits nowhere between positions {floor} and {upper}, where it would be {first:?} and {last:?}"
            ));
        }
        place
    }

    /// For the time that each attempt with an effect was sent: who was answered before it saw nothing of it, nor
    /// of what was sent later. By time.
    fn upper_bounds(&self, attempts: &[Attempt]) -> Vec<(Duration, u64)> {
        let mut sent: Vec<(Duration, u64)> = attempts
            .iter()
            .filter_map(|attempt| Some((attempt.sent, self.effects.get(&attempt.correlation)?.first - 1)))
            .collect();
        sent.sort_unstable();
        let mut lowest = self.positions;
        for (_, bound) in sent.iter_mut().rev() {
            lowest = lowest.min(*bound);
            *bound = lowest;
        }
        sent
    }
}
