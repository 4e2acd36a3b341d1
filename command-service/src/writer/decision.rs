//! Deciding the commands of one frame, each against the store and what the frame has decided already.

use std::{borrow::Cow, cell::RefCell};

use domain::{Context, Event, Kind, Rejection, State, States, Timestamp};
use event_log::{Encoded, Envelope, Head};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    state::{Address, Changes, Folded, KeyedOutcome, Speculation, Store, StoreError},
    submission::{Answer, Outcome, Refusal, Request},
};

/// A frame while it is being decided. Nothing of it touches the store until it is in the log.
pub(super) struct Frame<'a> {
    speculation: Speculation<'a>,
    events: Encoded,
    /// The position of the last event decided.
    position: u64,
    source: String,
    bytes_max: usize,
    now: Timestamp,
    /// A decision looked at a state that could not be read.
    unread: RefCell<Option<StoreError>>,
}

pub(super) enum Decided {
    Answer(Answer),
    /// The command's events do not fit any more: it goes first into the next frame.
    FrameIsFull,
}

/// Why a command has no events.
enum NoEvents {
    /// It was decided before, under the same key.
    Repeat(Outcome),
    Refused(Refusal),
    Failed(StoreError),
}

impl From<StoreError> for NoEvents {
    fn from(error: StoreError) -> Self {
        NoEvents::Failed(error)
    }
}

impl<'a> Frame<'a> {
    pub fn new(store: &'a Store, head: Head, namespace: &str, bytes_max: usize, now: Timestamp) -> Self {
        Self {
            speculation: Speculation::new(store),
            events: Encoded::default(),
            position: head.position,
            source: format!("/{namespace}"),
            bytes_max,
            now,
            unread: RefCell::new(None),
        }
    }

    /// The encoded events, and what they change in the store once they are in the log.
    pub fn finish(self) -> (Encoded, Changes) {
        (self.events, self.speculation.finish())
    }

    pub fn decide(&mut self, request: &Request) -> Result<Decided, StoreError> {
        let address = (request.command.kind(), request.id);
        let before = self.speculation.aggregate(address)?;
        match self.events_of(request, address, &before) {
            Ok(events) => self.take(request, address, &before, events),
            Err(NoEvents::Repeat(outcome)) => Ok(Decided::Answer(Ok(outcome))),
            Err(NoEvents::Refused(refusal)) => Ok(Decided::Answer(Err(refusal))),
            Err(NoEvents::Failed(error)) => Err(error),
        }
    }

    fn events_of(
        &self,
        request: &Request,
        address: Address,
        before: &Folded,
    ) -> Result<Vec<Event>, NoEvents> {
        // Before the key is looked at: a repeat tells what came of the command.
        if !request.permit.allows(&before.state, request.id, &request.command) {
            return Err(NoEvents::Refused(Refusal::NotTheirs));
        }
        if let Some(key) = &request.key
            && let Some(known) = self.speculation.outcome(address, &key.key)?
        {
            let is_repeat = known.command_hash == key.command_hash;
            return Err(match is_repeat {
                true => NoEvents::Repeat(known.outcome),
                false => NoEvents::Refused(Refusal::KeyReused),
            });
        }
        if request.if_match.is_some_and(|revision| revision != before.revision) {
            return Err(NoEvents::Refused(Refusal::RevisionMismatch { actual: before.revision }));
        }
        let context = Context { now: self.now, states: self };
        let decided = before.state.decide(request.command.clone(), &context);
        if let Some(error) = self.unread.take() {
            return Err(NoEvents::Failed(error));
        }
        decided.map_err(|rejection| NoEvents::Refused(rejection.into()))
    }

    /// Takes a command's events into the frame, if its claims are free and there is room.
    fn take(
        &mut self,
        request: &Request,
        address: Address,
        before: &Folded,
        events: Vec<Event>,
    ) -> Result<Decided, StoreError> {
        let (count, bytes) = (self.events.count(), self.events.bytes());
        let mut after = before.clone();
        let mut types = Vec::with_capacity(events.len());
        for event in events {
            let position = self.position + types.len() as u64 + 1;
            let (event_type, data) = event.encode();
            let envelope =
                self.envelope(request, position, after.revision, &event_type, event.version(), data);
            self.events.push(&envelope);
            after = Folded { state: after.state.evolve(&event), revision: position };
            types.push(event_type);
        }
        let refusal = match self.taken_claim(address, &after)? {
            Some(rejection) => Some(Refusal::Rejected(rejection)),
            None if self.events.bytes() - bytes > self.bytes_max => Some(Refusal::TooLarge),
            None => None,
        };
        let is_full = self.events.bytes() > self.bytes_max;
        if refusal.is_some() || is_full {
            self.events.truncate(count, bytes);
            return Ok(refusal.map_or(Decided::FrameIsFull, |refusal| Decided::Answer(Err(refusal))));
        }
        let outcome = Outcome {
            revision: after.revision,
            is_created: before.revision == 0 && !types.is_empty(),
            events: types,
        };
        if !outcome.events.is_empty() {
            self.position = after.revision;
            self.speculation.put(address, before, after, self.now);
            if let Some(key) = request.key.clone() {
                let keyed = KeyedOutcome { command_hash: key.command_hash, outcome: outcome.clone() };
                self.speculation.put_outcome(address, key.key, keyed);
            }
        }
        Ok(Decided::Answer(Ok(outcome)))
    }

    fn taken_claim(&self, address: Address, after: &Folded) -> Result<Option<Rejection>, StoreError> {
        for claim in after.state.claims() {
            if self.speculation.holder(&claim)?.is_some_and(|holder| holder != address) {
                return Ok(Some(claim.taken));
            }
        }
        Ok(None)
    }

    fn envelope(
        &self,
        request: &Request,
        position: u64,
        previous: u64,
        event_type: &str,
        version: u32,
        data: Box<RawValue>,
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
            dataschema: Envelope::schema(event_type, version),
            data,
            position,
            previous,
            idempotencykey,
            commandhash,
            correlationid: request.meta.correlation_id.clone(),
            causationid: request.meta.causation_id.clone(),
            actor: request.meta.actor.clone(),
            traceparent: request.meta.traceparent.clone(),
        }
    }
}

impl States for Frame<'_> {
    fn state(&self, kind: Kind, id: Uuid) -> Cow<'_, State> {
        match self.speculation.aggregate((kind, id)) {
            Ok(folded) => Cow::Owned(folded.state.clone()),
            Err(error) => {
                // The decision goes on with something, and is thrown away.
                self.unread.replace(Some(error));
                Cow::Owned(kind.initial())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Command, account, order};
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        permit::Permit,
        submission::{IdempotencyKey, Meta},
    };

    const ROOMY: usize = 100_000;

    /// An empty store, in a folder that goes with it.
    async fn store() -> (Store, TempDir) {
        let folder = TempDir::new().unwrap();
        (Store::open(folder.path().to_owned()).await.unwrap(), folder)
    }

    fn frame(store: &Store, bytes_max: usize) -> Frame<'_> {
        Frame::new(store, Head::default(), "test", bytes_max, Timestamp::EARLIEST)
    }

    fn request(id: u128, kind: Kind, name: &str, fields: Value) -> Request {
        let command = kind.command(name, &fields.to_string()).unwrap();
        let (permit, meta) = (Permit::Any, Meta::default());
        Request { id: Uuid::from_u128(id), command, key: None, if_match: None, permit, meta }
    }

    fn register(id: u128, email: &str) -> Request {
        let fields = json!({"email": format!("{email}@example.org"), "username": format!("user-{id}")});
        request(id, Kind::Account, "register", fields)
    }

    fn answer(decided: Result<Decided, StoreError>) -> Answer {
        match decided.unwrap() {
            Decided::Answer(answer) => answer,
            Decided::FrameIsFull => panic!("the frame is full"),
        }
    }

    #[tokio::test]
    async fn a_command_is_decided_on_what_its_frame_has_decided_already() {
        let (store, _folder) = store().await;
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

    #[tokio::test]
    async fn what_does_not_fit_leaves_no_trace_and_goes_into_the_next_frame() {
        let (store, _folder) = store().await;
        let mut first = frame(&store, 500);
        assert!(answer(first.decide(&register(1, "ada"))).is_ok());
        assert!(matches!(first.decide(&register(2, "bob")), Ok(Decided::FrameIsFull)));
        let (events, changes) = first.finish();
        assert_eq!(events.count(), 1);

        let mut store = store;
        let head = Head { sequence: 1, frame_id: None, position: 1, term: 1 };
        store.commit(changes, head).await.unwrap();
        let mut next = frame(&store, 500);
        assert!(answer(next.decide(&register(2, "bob"))).is_ok());
    }

    #[tokio::test]
    async fn what_fits_into_no_frame_is_refused() {
        let (store, _folder) = store().await;
        let refused = answer(frame(&store, 10).decide(&register(1, "ada")));
        assert!(matches!(refused, Err(Refusal::TooLarge)), "{refused:?}");
    }

    #[tokio::test]
    async fn what_belongs_to_somebody_else_is_refused_before_its_keys_are_looked_at() {
        let (store, _folder) = store().await;
        let mut frame = frame(&store, ROOMY);
        let of = |subject: u128, request: Request| Request {
            permit: Permit::Own(Uuid::from_u128(subject).to_string()),
            key: Some(IdempotencyKey::new("k".into(), &request.command)),
            ..request
        };
        let refused = answer(frame.decide(&of(2, register(1, "ada"))));
        assert!(matches!(refused, Err(Refusal::NotTheirs)), "{refused:?}");
        assert!(answer(frame.decide(&of(1, register(1, "ada")))).is_ok());
        assert!(answer(frame.decide(&of(1, register(1, "ada")))).is_ok());
        for probe in [register(1, "ada"), request(1, Kind::Account, "close", json!({}))] {
            let refused = answer(frame.decide(&of(2, probe)));
            assert!(matches!(refused, Err(Refusal::NotTheirs)), "{refused:?}");
        }
        assert_eq!(frame.finish().0.count(), 1);
    }

    #[tokio::test]
    async fn a_key_known_in_the_frame_gives_the_first_outcome_again() {
        let (store, _folder) = store().await;
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
