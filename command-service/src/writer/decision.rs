//! Deciding the commands of one frame, each against the store and what the frame has decided already.

use std::borrow::Cow;

use domain::{Context, Event, Kind, Rejection, State, States, Timestamp, application::EVENT_VERSION};
use event_log::{Encoded, Envelope, Head};
use uuid::Uuid;

use super::{
    store::{Address, Changes, Folded, KeyedOutcome, Store},
    submission::{Answer, Outcome, Refusal, Request},
};

/// A frame while it is being decided. Nothing of it touches the store until it is in the log.
pub(super) struct Frame<'a> {
    store: &'a Store,
    changes: Changes,
    events: Encoded,
    /// The position of the last event decided.
    position: u64,
    source: String,
    bytes_max: usize,
    now: Timestamp,
}

pub(super) enum Decided {
    Answer(Answer),
    /// The command's events do not fit any more: it goes first into the next frame.
    FrameIsFull,
}

impl<'a> Frame<'a> {
    pub fn new(store: &'a Store, head: Head, namespace: &str, bytes_max: usize, now: Timestamp) -> Self {
        Self {
            store,
            changes: Changes::default(),
            events: Encoded::default(),
            position: head.position,
            source: format!("/{namespace}"),
            bytes_max,
            now,
        }
    }

    /// The encoded events, and what they change in the store once they are in the log.
    pub fn finish(self) -> (Encoded, Changes) {
        (self.events, self.changes)
    }

    pub fn decide(&mut self, request: &Request) -> Decided {
        let address = (request.command.kind(), request.id);
        match self.events_of(request, address) {
            Ok(Following::Events(events)) => self.take(request, address, events),
            Ok(Following::Repeat(outcome)) => Decided::Answer(Ok(outcome)),
            Err(refusal) => Decided::Answer(Err(refusal)),
        }
    }

    fn events_of(&self, request: &Request, address: Address) -> Result<Following, Refusal> {
        if let Some(key) = &request.key
            && let Some(known) = self.changes.outcome(self.store, address, &key.key)
        {
            let is_repeat = known.command_hash == key.command_hash;
            return if is_repeat {
                Ok(Following::Repeat(known.outcome.clone()))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        let folded = self.changes.aggregate(self.store, address);
        if request.if_match.is_some_and(|revision| revision != folded.revision) {
            return Err(Refusal::RevisionMismatch { actual: folded.revision });
        }
        let context = Context { now: self.now, states: self };
        let events = folded.state.decide(request.command.clone(), &context)?;
        Ok(Following::Events(events))
    }

    /// Takes a command's events into the frame, if its claims are free and there is room.
    fn take(&mut self, request: &Request, address: Address, events: Vec<Event>) -> Decided {
        let before = self.changes.aggregate(self.store, address).into_owned();
        let (count, bytes) = (self.events.count(), self.events.bytes());
        let mut after = before.clone();
        let mut types = Vec::with_capacity(events.len());
        for event in events {
            let position = self.position + types.len() as u64 + 1;
            let (event_type, data) = event.encode();
            self.events.push(&self.envelope(request, position, after.revision, &event_type, data));
            after = Folded { state: after.state.evolve(&event), revision: position };
            types.push(event_type);
        }
        let refusal = self
            .taken_claim(address, &after)
            .map(Refusal::Rejected)
            .or_else(|| (self.events.bytes() - bytes > self.bytes_max).then_some(Refusal::TooLarge));
        let is_full = self.events.bytes() > self.bytes_max;
        if refusal.is_some() || is_full {
            self.events.truncate(count, bytes);
            return refusal.map_or(Decided::FrameIsFull, |refusal| Decided::Answer(Err(refusal)));
        }
        let outcome = Outcome {
            revision: after.revision,
            is_created: before.revision == 0 && !types.is_empty(),
            events: types,
        };
        if !outcome.events.is_empty() {
            self.position = after.revision;
            self.changes.put(self.store, address, after, self.now);
            if let Some(key) = request.key.clone() {
                let keyed = KeyedOutcome { command_hash: key.command_hash, outcome: outcome.clone() };
                self.changes.put_outcome(address, key.key, keyed);
            }
        }
        Decided::Answer(Ok(outcome))
    }

    fn taken_claim(&self, address: Address, after: &Folded) -> Option<Rejection> {
        let claims = after.state.claims();
        let taken = claims
            .iter()
            .find(|claim| self.changes.holder(self.store, claim).is_some_and(|holder| holder != address));
        taken.map(|claim| claim.taken)
    }

    fn envelope(
        &self,
        request: &Request,
        position: u64,
        previous: u64,
        event_type: &str,
        data: Box<serde_json::value::RawValue>,
    ) -> Envelope {
        let key = request.key.clone();
        let (idempotencykey, commandhash) = key.map(|key| (key.key, key.command_hash)).unzip();
        Envelope {
            specversion: Envelope::SPECVERSION.into(),
            id: position.to_string(),
            source: self.source.clone(),
            r#type: event_type.to_owned(),
            subject: request.id,
            time: self.now.into(),
            datacontenttype: Envelope::DATACONTENTTYPE.into(),
            dataschema: Envelope::schema(event_type, EVENT_VERSION),
            data,
            position,
            previous,
            idempotencykey,
            commandhash,
            correlationid: request.meta.correlation_id.clone(),
            causationid: request.meta.causation_id.clone(),
            actor: None,
            traceparent: request.meta.traceparent.clone(),
        }
    }
}

/// What follows from a command.
enum Following {
    Events(Vec<Event>),
    /// The command was decided before, under the same key.
    Repeat(Outcome),
}

impl States for Frame<'_> {
    fn state(&self, kind: Kind, id: Uuid) -> Cow<'_, State> {
        match self.changes.aggregate(self.store, (kind, id)) {
            Cow::Borrowed(folded) => Cow::Borrowed(&folded.state),
            Cow::Owned(folded) => Cow::Owned(folded.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Command, account, order};
    use serde_json::{Value, json};

    use super::*;
    use crate::writer::submission::{IdempotencyKey, Meta};

    const ROOMY: usize = 100_000;

    fn frame(store: &Store, bytes_max: usize) -> Frame<'_> {
        Frame::new(store, Head::default(), "test", bytes_max, Timestamp::EARLIEST)
    }

    fn request(id: u128, kind: Kind, name: &str, fields: Value) -> Request {
        let command = kind.command(name, &fields.to_string()).unwrap();
        Request { id: Uuid::from_u128(id), command, key: None, if_match: None, meta: Meta::default() }
    }

    fn register(id: u128, email: &str) -> Request {
        let fields = json!({"email": format!("{email}@example.org"), "username": format!("user-{id}")});
        request(id, Kind::Account, "register", fields)
    }

    fn answer(decided: Decided) -> Answer {
        match decided {
            Decided::Answer(answer) => answer,
            Decided::FrameIsFull => panic!("the frame is full"),
        }
    }

    #[test]
    fn a_command_is_decided_on_what_its_frame_has_decided_already() {
        let store = Store::default();
        let mut frame = frame(&store, ROOMY);
        assert_eq!(answer(frame.decide(&register(1, "ada"))).unwrap().revision, 1);
        let taken = answer(frame.decide(&register(2, "ada")));
        assert!(matches!(taken, Err(Refusal::Rejected(account::EMAIL_TAKEN))), "{taken:?}");

        let place = |account: u128| {
            let account = Uuid::from_u128(account);
            let fields = json!({"account_id": account, "quantity": 1, "amount_cents": 1, "currency": "USD"});
            request(10 + account.as_u128(), Kind::Order, "place", fields)
        };
        assert_eq!(answer(frame.decide(&place(1))).unwrap().revision, 2);
        let refused = answer(frame.decide(&place(2)));
        assert!(matches!(refused, Err(Refusal::Rejected(order::ACCOUNT_NOT_ACTIVE))), "{refused:?}");
        assert_eq!(frame.finish().0.count(), 2);
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace_and_goes_into_the_next_frame() {
        let store = Store::default();
        let mut first = frame(&store, 500);
        assert!(answer(first.decide(&register(1, "ada"))).is_ok());
        assert!(matches!(first.decide(&register(2, "bob")), Decided::FrameIsFull));
        let (events, changes) = first.finish();
        assert_eq!(events.count(), 1);

        let mut store = Store::default();
        store.commit(changes, Head { sequence: 1, frame_id: None, position: 1, term: 1 });
        let mut next = frame(&store, 500);
        assert!(answer(next.decide(&register(2, "bob"))).is_ok());
    }

    #[test]
    fn what_fits_into_no_frame_is_refused() {
        let store = Store::default();
        let refused = answer(frame(&store, 10).decide(&register(1, "ada")));
        assert!(matches!(refused, Err(Refusal::TooLarge)), "{refused:?}");
    }

    #[test]
    fn a_key_known_in_the_frame_gives_the_first_outcome_again() {
        let store = Store::default();
        let mut frame = frame(&store, ROOMY);
        let keyed = |command: Command, request: Request| Request {
            key: Some(IdempotencyKey::new("k".into(), &command)),
            ..request
        };
        let first = register(1, "ada");
        let first = keyed(first.command.clone(), first);
        let outcome = answer(frame.decide(&first)).unwrap();
        assert_eq!(answer(frame.decide(&first)).unwrap(), outcome);
        let close = request(1, Kind::Account, "close", json!({}));
        let other = keyed(close.command.clone(), close);
        assert!(matches!(answer(frame.decide(&other)), Err(Refusal::KeyReused)));
        assert_eq!(frame.finish().0.count(), 1);
    }
}
