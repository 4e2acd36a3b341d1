//! What comes of a command at one moment of the log, by the pure rules of the domain and the few of the writer:
//! a known key first, then the revision, then the decision, then the claims.

use domain::{Context, Event, Timestamp};

use super::{Answer, Attempt, Checker, Effect, Rule, Violation, past::Moment};

/// What the rules say.
#[derive(Debug, PartialEq)]
pub enum Decision {
    Events(Vec<Event>),
    Answer(Answer),
}

impl Checker<'_> {
    /// Decides a command on the log up to `position`.
    pub fn decide(&self, attempt: &Attempt, position: u64, now: Timestamp) -> Decision {
        let address = attempt.address();
        if let Some(key) = &attempt.key
            && let Some(known) = self.past.keyed(address, key)
            && known.last <= position
        {
            return Decision::Answer(self.again(attempt, known));
        }
        let (state, revision) = self.past.aggregate(address, position);
        if attempt.if_match.is_some_and(|expected| expected != revision) {
            return Decision::Answer(Answer::RevisionMismatch { actual: revision });
        }
        let moment = Moment { past: self.past, position };
        let events = match state.decide(attempt.command.clone(), &Context { now, states: &moment }) {
            Ok(events) => events,
            Err(rejection) => return Decision::Answer(Answer::Rejected(rejection.code.to_owned())),
        };
        if events.is_empty() {
            return Decision::Answer(Answer::Accepted { revision, events: vec![], is_created: false });
        }
        let after = events.iter().fold(state.into_owned(), |state, event| state.evolve(event));
        let is_taken = |holder| holder != address;
        let mut claims = after.claims().into_iter();
        match claims.find(|claim| self.past.holder(claim, position).is_some_and(is_taken)) {
            Some(claim) => Decision::Answer(Answer::Rejected(claim.taken.code.to_owned())),
            None => Decision::Events(events),
        }
    }

    /// What a command is answered whose key is known.
    fn again(&self, attempt: &Attempt, known: &Effect) -> Answer {
        let first = self.by_id.get(&known.attempt);
        match first.is_some_and(|first| first.is_same_command(attempt)) {
            true => Answer::Accepted {
                revision: known.last,
                events: known.types.clone(),
                is_created: known.is_first(),
            },
            false => Answer::KeyReused,
        }
    }

    /// Decides a command that had an effect again where it had it. A frame's commands are decided one after the
    /// other, so what is before the command's own first event is what it was decided on, within a frame too.
    pub fn decided_otherwise(&self, attempt: &Attempt, effect: &Effect) -> Option<Violation> {
        let decision = self.decide(attempt, effect.first - 1, effect.time);
        (decision != Decision::Events(effect.events.clone())).then(|| {
            let what = format!("{attempt:?} had {effect:?}, but the rules give {decision:?}");
            Violation::new(Rule::Decided, what)
        })
    }
}
