//! Finds a place in the log for every answer that has none, or shows that there is none.
//!
//! A place is a number of events, after all of which and before the next of which the command was decided. The
//! rules say of each place whether the answer could have been given there. The clock adds: what was sent after
//! an answer had arrived is placed no earlier than what was answered. An effect's place is known.
//!
//! Every answer is given the earliest place that the rules and the clock allow, in the order in which the
//! commands were sent. That this is right is a short proof. The clock bounds a place from below by the places of
//! commands that were *answered* before this one was *sent*; those were sent before it, too, so they have their
//! places by then. Assume that there is an assignment of places that contradicts nothing. By induction over the
//! order of sending, no earliest place is later than that assignment's: the bound from below is made of places
//! that are none later than the assignment's, so the assignment's place is one that we could have chosen. Bounds
//! from above come from effects alone, which do not move: a place that is none later keeps to them as well. So if
//! any assignment exists, the earliest places are one; and if an answer finds no place, there is none.
//!
//! Answers at one place do not change what the others see, so that they may be put into whatever order the clock
//! gives them.
//!
//! Decisions look at the time in one rule only: an order placed later than now. An answer without an effect names
//! no time, so that the time of the event before its place is taken; histories leave that rule alone.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use domain::Timestamp;

use super::{Answer, Answered, Attempt, Checker, Rule, Violation, rules::Decision};

impl Checker<'_> {
    pub fn broken_by_order(&self) -> Vec<Violation> {
        let mut attempts: Vec<&Attempt> = self.attempts.iter().collect();
        attempts.sort_by_key(|attempt| attempt.sent);
        let ceilings = Ceilings::of(self, &attempts);
        let mut floor = Floor::default();
        let mut violations = Vec::new();
        for attempt in attempts {
            let least = floor.at(attempt.sent);
            let place = match (self.past.effect_of(attempt.id), &attempt.answered) {
                (Some(effect), _) => {
                    if effect.first <= least {
                        let what = format!("{attempt:?} had {effect:?}, but {least} was answered before");
                        violations.push(Violation::new(Rule::RealTime, what));
                    }
                    violations.extend(self.decided_otherwise(attempt, effect));
                    effect.last
                }
                (None, None | Some(Answered { answer: Answer::WithoutEffect, .. })) => continue,
                (None, Some(answered)) => {
                    let most = ceilings.at(answered.at);
                    match self.earliest(attempt, &answered.answer, least, most) {
                        Ok(place) => place,
                        Err(violation) => {
                            violations.push(violation);
                            continue;
                        }
                    }
                }
            };
            if let Some(answered) = &attempt.answered {
                floor.raise(answered.at, place);
            }
        }
        violations
    }

    /// The earliest place from `least` to `most` at which the rules give this answer.
    fn earliest(&self, attempt: &Attempt, answer: &Answer, least: u64, most: u64) -> Result<u64, Violation> {
        let mut given = None;
        for (place, now) in self.places(least, most) {
            let decision = self.decide(attempt, place, now);
            if matches!(&decision, Decision::Answer(possible) if possible == answer) {
                return Ok(place);
            }
            given = Some(decision);
        }
        let what =
            format!("nowhere from {least} to {most}: {attempt:?}; in the end the rules give {given:?}");
        Err(Violation::new(Rule::Explained, what))
    }

    /// The places from `least` to `most`, none of them within an effect, each with a time.
    fn places(&self, least: u64, most: u64) -> impl Iterator<Item = (u64, Timestamp)> {
        let effects = self.past.effects();
        let settled = self.past.settled();
        let start = (least <= settled.0).then_some(settled);
        let from = effects.partition_point(|effect| effect.last < least);
        let ends = effects[from..].iter().map(|effect| (effect.last, effect.time));
        start.into_iter().chain(ends.take_while(move |(place, _)| *place <= most))
    }
}

/// The latest place of all commands that were answered by some time. Time only goes on.
#[derive(Default)]
struct Floor {
    place: u64,
    /// Answers that are yet to come, the next on top.
    coming: BinaryHeap<Reverse<(Duration, u64)>>,
}

impl Floor {
    fn raise(&mut self, answered: Duration, place: u64) {
        self.coming.push(Reverse((answered, place)));
    }

    fn at(&mut self, time: Duration) -> u64 {
        while let Some(Reverse((answered, place))) = self.coming.peek()
            && *answered < time
        {
            self.place = self.place.max(*place);
            self.coming.pop();
        }
        self.place
    }
}

/// The last place before the effects of all commands that were sent after some time.
struct Ceilings {
    /// For each command with an effect, when it was sent, and the place before its own effect and those of all
    /// that were sent later.
    before: Vec<(Duration, u64)>,
    end: u64,
}

impl Ceilings {
    /// `attempts` are in the order in which they were sent.
    fn of(checker: &Checker<'_>, attempts: &[&Attempt]) -> Self {
        let end = checker.past.end();
        let mut before = Vec::new();
        let mut least = end;
        for attempt in attempts.iter().rev() {
            if let Some(effect) = checker.past.effect_of(attempt.id) {
                least = least.min(effect.first - 1);
                before.push((attempt.sent, least));
            }
        }
        before.reverse();
        Self { before, end }
    }

    fn at(&self, time: Duration) -> u64 {
        let next = self.before.partition_point(|(sent, _)| *sent <= time);
        self.before.get(next).map_or(self.end, |(_, place)| *place)
    }
}
