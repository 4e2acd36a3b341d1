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
            specversion: Envelope::SPECVERSION.to_owned(),
            id: position.to_string(),
            source: self.source.clone(),
            r#type: event_type.to_owned(),
            subject: request.id,
            time: self.now.into(),
            datacontenttype: Envelope::DATACONTENTTYPE.to_owned(),
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
