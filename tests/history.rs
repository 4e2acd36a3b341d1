//! Whether a history of commands and answers is strictly serializable: whether every answer is what the rules
//! of the business say at one point of one order of all commands, an order that never contradicts the clock.
//!
//! The log names the order of the commands that had an effect. Each of them is decided again on the log before
//! its first event, where it must give exactly the events that are there. A command without an effect (refused,
//! or accepted without a change, or a repeat of a known key) has no place in the log, so one is looked for: a
//! point between two effects at which the rules give the answer that was given. See [`placing`].
//!
//! Every attempt carries a `Correlation-Id` of its own, which its events carry on: no effect is anybody else's.
//!
//! A long history is checked part by part ([`History`]), and what was checked is forgotten but for what later parts
//! rest on.

mod forged;
mod parts;
mod past;
mod placing;
pub mod recorder;
mod rules;

use std::{
    collections::{BTreeMap, HashMap},
    ops::AddAssign,
    time::Duration,
};

use domain::Command;
use event_log::{Envelope, EventLog};
use uuid::Uuid;

pub use past::{Address, Effect, Past};

/// A history that is wrong in more places is wrong everywhere.
const VIOLATIONS_MAX: usize = 20;

/// One command, sent once, to one instance.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its `Correlation-Id`; no two attempts share one.
    pub id: Uuid,
    /// The aggregate's.
    pub aggregate: Uuid,
    pub command: Command,
    pub key: Option<String>,
    pub if_match: Option<u64>,
    /// When it was sent, on the clock that all attempts share.
    pub sent: Duration,
    /// None if it may still have its effect, for all that its sender knows.
    pub answered: Option<Answered>,
}

#[derive(Clone, Debug)]
pub struct Answered {
    /// When the answer had arrived.
    pub at: Duration,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted {
        revision: u64,
        events: Vec<String>,
        is_created: bool,
    },
    /// By a rule of the business, with this code.
    Rejected(String),
    RevisionMismatch {
        actual: u64,
    },
    KeyReused,
    /// Not decided, for want of a writer, of room, or of a log: certainly without effect.
    WithoutEffect,
}

impl Attempt {
    pub fn address(&self) -> Address {
        (self.command.kind(), self.aggregate)
    }

    pub fn is_same_command(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.command.encode(), other.command.encode());
        (ours.0, ours.1.get()) == (theirs.0, theirs.1.get())
    }
}

/// What a history broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Positions are dense, and every aggregate's events are a chain.
    Chain,
    /// Every effect is that of an attempt: on its aggregate, under its key.
    Origin,
    /// One attempt has one effect, and so has one key of one aggregate.
    Once,
    /// What was acknowledged is in the log.
    Kept,
    /// Who had an effect is told so, and what it was; who was told of none had none.
    Told,
    /// An effect is what the rules give on the log before it.
    Decided,
    /// What was answered without an effect is what the rules give at some point that the clock allows.
    Explained,
    /// What was sent after an answer comes after what was answered.
    RealTime,
}

#[derive(Debug)]
pub struct Violation {
    pub rule: Rule,
    /// For people.
    pub what: String,
}

impl Violation {
    fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// What was checked.
#[derive(Debug, Default)]
pub struct Checked {
    /// Commands in the log.
    pub effects: usize,
    /// Of those, acknowledged at once.
    pub acknowledged: usize,
    /// Answers without an effect, each explained by the rules, by what they say.
    pub explained: BTreeMap<String, usize>,
    /// Certainly without effect.
    pub without_effect: usize,
    /// Never answered; and of those, in the log all the same.
    pub unanswered: usize,
    pub unanswered_with_effect: usize,
}

/// Checks all that was sent and answered against all that is in the log.
pub fn check(attempts: &[Attempt], log: &[Envelope]) -> Result<Checked, Vec<Violation>> {
    History::default().go_on(attempts.to_vec(), log)
}

/// A history that is checked part by part. Between two parts there is a moment at which nothing is under way; who was
/// not answered until then may have had no effect yet, and has it in the next part or never.
#[derive(Default)]
pub struct History {
    past: Past,
    /// Those that had an effect under a key: their commands are what a repeat is compared with.
    keyed: HashMap<Uuid, Attempt>,
    /// Those of the last part that were not answered, and had no effect.
    open: Vec<Attempt>,
}

impl History {
    /// Checks the next part: what was sent in it, and all events of the log that came in it.
    pub fn go_on(&mut self, attempts: Vec<Attempt>, log: &[Envelope]) -> Result<Checked, Vec<Violation>> {
        let mut violations = self.past.go_on(log);
        let open = self.open.len();
        self.open.extend(attempts);
        let known = self.keyed.values().chain(&self.open);
        let by_id = known.map(|attempt| (attempt.id, attempt)).collect();
        let checker = Checker { past: &self.past, attempts: &self.open, by_id };
        violations.extend(checker.broken_by_effects());
        violations.extend(checker.broken_by_answers());
        if violations.is_empty() {
            // Only effects that can be trusted can explain anything.
            violations.extend(checker.broken_by_order());
        }
        violations.truncate(VIOLATIONS_MAX);
        if !violations.is_empty() {
            return Err(violations);
        }
        let checked = checker.counted(open);
        self.settle(open);
        Ok(checked)
    }

    /// Forgets all but what the next part rests on. The first `open` attempts are of the part before.
    fn settle(&mut self, open: usize) {
        for (index, attempt) in std::mem::take(&mut self.open).into_iter().enumerate() {
            let is_done = self.past.effect_of(attempt.id).is_some();
            if is_done && attempt.key.is_some() {
                self.keyed.insert(attempt.id, attempt);
            } else if !is_done && attempt.answered.is_none() && index >= open {
                self.open.push(attempt);
            }
        }
        self.past.settle();
    }
}

impl AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.effects += other.effects;
        self.acknowledged += other.acknowledged;
        for (answer, count) in other.explained {
            *self.explained.entry(answer).or_default() += count;
        }
        self.without_effect += other.without_effect;
        self.unanswered += other.unanswered;
        self.unanswered_with_effect += other.unanswered_with_effect;
    }
}

/// All events of a log.
pub async fn read(log: &EventLog) -> Vec<Envelope> {
    let mut events = replay::Events::from_start(log);
    let mut all = Vec::new();
    while let Some(event) = events.available().await.unwrap() {
        all.push(event);
    }
    all
}

struct Checker<'a> {
    past: &'a Past,
    attempts: &'a [Attempt],
    by_id: HashMap<Uuid, &'a Attempt>,
}

impl Checker<'_> {
    /// Every effect is some attempt's, and the only one of its key.
    fn broken_by_effects(&self) -> Vec<Violation> {
        let mut violations = self.past.doubled();
        for effect in self.past.effects() {
            let Some(attempt) = self.by_id.get(&effect.attempt) else {
                violations.push(Violation::new(Rule::Origin, format!("nobody sent {effect:?}")));
                continue;
            };
            // An instance gives a key to a command without one that it forwards.
            let is_its_key = match (&attempt.key, &effect.key) {
                (Some(sent), Some(kept)) => sent == kept,
                (Some(_), None) => false,
                (None, Some(made)) => made.starts_with("forwarded-"),
                (None, None) => true,
            };
            if effect.address != attempt.address() || !is_its_key {
                violations.push(Violation::new(Rule::Origin, format!("{attempt:?} had {effect:?}")));
            }
        }
        violations
    }

    /// Who had an effect knows, or was told nothing; who was told of an effect finds it.
    fn broken_by_answers(&self) -> Vec<Violation> {
        let answers = self.attempts.iter().filter_map(|attempt| Some((attempt, attempt.answered.as_ref()?)));
        let broken = answers.filter_map(|(attempt, answered)| {
            let is_told = |effect: &Effect| {
                let (revision, events, is_created) = (effect.last, effect.types.clone(), effect.is_first());
                answered.answer == Answer::Accepted { revision, events, is_created }
            };
            match (self.past.effect_of(attempt.id), &answered.answer) {
                (Some(effect), _) if is_told(effect) => None,
                (Some(effect), _) => Some(Violation::new(Rule::Told, format!("{attempt:?} had {effect:?}"))),
                (None, Answer::Accepted { events, .. }) if !events.is_empty() => {
                    let known = attempt.key.as_ref().and_then(|key| self.past.keyed(attempt.address(), key));
                    let lost = || Violation::new(Rule::Kept, format!("not in the log: {attempt:?}"));
                    known.is_none().then(lost)
                }
                (None, _) => None,
            }
        });
        broken.collect()
    }

    /// The first `open` attempts were counted as unanswered already.
    fn counted(&self, open: usize) -> Checked {
        let mut checked = Checked { effects: self.past.effects().len(), ..Default::default() };
        for (index, attempt) in self.attempts.iter().enumerate() {
            let had_effect = self.past.effect_of(attempt.id).is_some();
            if index < open {
                checked.unanswered_with_effect += usize::from(had_effect);
                continue;
            }
            let explained = match attempt.answered.as_ref().map(|answered| &answered.answer) {
                None => {
                    checked.unanswered += 1;
                    checked.unanswered_with_effect += usize::from(had_effect);
                    continue;
                }
                Some(Answer::WithoutEffect) => {
                    checked.without_effect += 1;
                    continue;
                }
                Some(Answer::Accepted { .. }) if had_effect => {
                    checked.acknowledged += 1;
                    continue;
                }
                Some(Answer::Accepted { events, .. }) if events.is_empty() => "unchanged",
                Some(Answer::Accepted { .. }) => "repeated",
                Some(Answer::Rejected(code)) => code,
                Some(Answer::RevisionMismatch { .. }) => "revision-mismatch",
                Some(Answer::KeyReused) => "key-reused",
            };
            *checked.explained.entry(explained.to_owned()).or_default() += 1;
        }
        checked
    }
}
