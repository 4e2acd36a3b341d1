//! A log that is written by hand: with events and frames that no writer of ours would append.

use async_nats::jetstream;
use event_log::{Encoded, EventLog, Head, NewFrame};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Place;

pub struct Log {
    pub log: EventLog,
    pub client: async_nats::Client,
    pub head: Head,
}

impl Log {
    /// An empty one.
    pub async fn of(client: async_nats::Client, namespace: &str) -> Self {
        let log = EventLog::new(client.clone(), namespace);
        log.ensure().await.unwrap();
        Self { log, client, head: Head::default() }
    }

    pub async fn at(place: &Place) -> Self {
        Self::of(place.nats().await, &place.namespace).await
    }

    /// The position of the next event.
    pub fn next(&self) -> u64 {
        self.head.position + 1
    }

    /// Appends one frame.
    pub async fn append(&mut self, events: &[Value]) {
        self.append_changed(events, |_| ()).await;
    }

    /// Appends a frame that is not what a writer would append.
    pub async fn append_changed(&mut self, events: &[Value], change: impl Fn(&mut NewFrame)) {
        let mut encoded = Encoded::default();
        events.iter().for_each(|event| encoded.push(&serde_json::from_str(&event.to_string()).unwrap()));
        let mut frame = NewFrame::new(self.head, 7, encoded);
        change(&mut frame);
        self.head = self.log.append(&frame, self.head).await.unwrap();
    }

    /// Stores a message that is no frame.
    pub async fn append_rubbish(&mut self) {
        let jetstream = jetstream::new(self.client.clone());
        let subject = format!("{}.log.0", self.log.namespace());
        let ack = jetstream.publish(subject, "rubbish".into()).await.unwrap().await.unwrap();
        self.head = Head { sequence: ack.sequence, frame_id: None, ..self.head };
    }

    /// The stream is lost, and an empty one takes its place.
    pub async fn replace(&mut self) {
        let jetstream = jetstream::new(self.client.clone());
        jetstream.delete_stream(format!("{}_LOG", self.log.namespace())).await.unwrap();
        self.log.ensure().await.unwrap();
        self.head = Head::default();
    }
}

pub fn event(position: u64, previous: u64, id: u128, event_type: &str, data: Value) -> Value {
    let (hour, minute, second) = (position / 3600, position / 60 % 60, position % 60);
    json!({"specversion": "1.0", "id": position.to_string(), "source": "/test", "type": event_type,
        "subject": Uuid::from_u128(id), "time": format!("2026-01-01T{hour:02}:{minute:02}:{second:02}Z"),
        "datacontenttype": "application/json", "dataschema": format!("urn:headwater:{event_type}:1"), "data": data,
        "position": position.to_string(), "previous": previous.to_string()})
}

pub fn registered(position: u64, id: u128, name: &str) -> Value {
    let data = json!({"email": format!("{name}@example.org"), "username": format!("user-{id}")});
    event(position, 0, id, "account.registered", data)
}

pub fn renamed(position: u64, previous: u64, id: u128, name: &str) -> Value {
    event(position, previous, id, "account.renamed", json!({"name": name}))
}

pub fn closed(position: u64, previous: u64, id: u128) -> Value {
    event(position, previous, id, "account.closed", json!({}))
}

pub fn placed(position: u64, id: u128, account: u128, cents: i64) -> Value {
    event(position, 0, id, "order.placed", purchase(account, cents))
}

pub fn cancelled(position: u64, previous: u64, id: u128, account: u128, cents: i64) -> Value {
    let data = json!({"reason": "late", "purchase": purchase(account, cents)});
    event(position, previous, id, "order.cancelled", data)
}

fn purchase(account: u128, cents: i64) -> Value {
    json!({"account_id": Uuid::from_u128(account), "quantity": 1, "amount_cents": cents, "currency": "USD",
        "placed_at": "1997-01-01T12:00:00Z"})
}
