//! What happens while projectors are killed: accounts and orders, appended to the log directly, in frames of all
//! sizes.

use std::time::{Duration, Instant};

use event_log::{AppendError, Encoded, EventLog, Head, NewFrame};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{harness::Place, storm::random::Random};

/// Of a hundred frames, so many are small.
const SMALL_FRAMES_PERCENT: u64 = 70;
const SMALL_FRAME_EVENTS: u64 = 20;
const LARGE_FRAME_EVENTS: u64 = 500;
/// The pause after a frame; after every third there is none.
const PAUSE_MS_MAX: u64 = 100;
/// Orders are placed on so many days, so that many share a row.
const DAYS: u64 = 28;

/// The log's only writer.
pub struct Load {
    log: EventLog,
    head: Head,
    random: Random,
    shop: Shop,
    /// When each frame was acknowledged, and the position of its last event.
    pub appended: Vec<(Instant, u64)>,
}

impl Load {
    /// Of an empty log.
    pub async fn start(place: &Place, random: Random) -> Self {
        let log = place.log().await;
        log.ensure().await.unwrap();
        Self { log, head: Head::default(), random, shop: Shop::default(), appended: Vec::new() }
    }

    /// The position of the last event.
    pub fn position(&self) -> u64 {
        self.head.position
    }

    /// Appends so many events, in frames and with pauses as chance has them.
    pub async fn append(&mut self, events: u64) {
        let end = self.position() + events;
        while self.position() < end {
            let is_small = self.random.percent(SMALL_FRAMES_PERCENT);
            let most = if is_small { SMALL_FRAME_EVENTS } else { LARGE_FRAME_EVENTS };
            let count = self.random.within(1..most + 1).min(end - self.position());
            self.append_frame(count).await;
            if !self.random.percent(33) {
                let pause = self.random.within(0..PAUSE_MS_MAX);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    /// Appends one frame, however long the server is away.
    pub async fn append_frame(&mut self, events: u64) {
        let mut encoded = Encoded::default();
        for position in self.head.position + 1..=self.head.position + events {
            let event = self.shop.next(position, &mut self.random);
            encoded.push(&serde_json::from_str(&event.to_string()).unwrap());
        }
        let frame = NewFrame::new(self.head, 1, encoded);
        self.head = loop {
            match self.log.append(&frame, self.head).await {
                Ok(head) => break head,
                Err(AppendError::Unknown(_) | AppendError::Refused(_)) => {}
                Err(error @ AppendError::Conflict) => panic!("{error}"),
            }
        };
        self.appended.push((Instant::now(), self.head.position));
    }
}

/// What is there to be changed.
#[derive(Default)]
struct Shop {
    /// Everybody who ever registered: their number makes names that nobody else has.
    registered: u64,
    /// Accounts that are not closed: id and last position.
    accounts: Vec<(Uuid, u64)>,
    /// Orders that are not cancelled: id, position and purchase.
    orders: Vec<(Uuid, u64, Value)>,
}

impl Shop {
    /// Makes something happen at this position.
    fn next(&mut self, position: u64, random: &mut Random) -> Value {
        match random.within(0..100) {
            _ if self.accounts.is_empty() => self.register(position),
            0..10 => self.register(position),
            10..15 => {
                let (id, last) = self.some_account(random);
                let previous = std::mem::replace(last, position);
                let data = json!({"email": format!("changed-{position}@example.org")});
                event(position, previous, id, "account.email-changed", data)
            }
            15 => {
                let index = random.within(0..self.accounts.len() as u64) as usize;
                let (id, previous) = self.accounts.swap_remove(index);
                event(position, previous, id, "account.closed", json!({}))
            }
            16..30 if !self.orders.is_empty() => {
                let index = random.within(0..self.orders.len() as u64) as usize;
                let (id, previous, purchase) = self.orders.swap_remove(index);
                let data = json!({"reason": "changed my mind", "purchase": purchase});
                event(position, previous, id, "order.cancelled", data)
            }
            _ => self.place(position, random),
        }
    }

    fn register(&mut self, position: u64) -> Value {
        let id = Uuid::now_v7();
        self.registered += 1;
        self.accounts.push((id, position));
        let number = self.registered;
        let data = json!({"email": format!("{number}@example.org"), "username": format!("user-{number}")});
        event(position, 0, id, "account.registered", data)
    }

    fn place(&mut self, position: u64, random: &mut Random) -> Value {
        let id = Uuid::now_v7();
        let day = random.within(1..DAYS + 1);
        let purchase = json!({"account_id": self.some_account(random).0, "quantity": random.within(1..5),
            "amount_cents": random.within(1..20_000), "currency": "USD",
            "placed_at": format!("1997-02-{day:02}T12:00:00Z")});
        self.orders.push((id, position, purchase.clone()));
        event(position, 0, id, "order.placed", purchase)
    }

    fn some_account(&mut self, random: &mut Random) -> (Uuid, &mut u64) {
        let index = random.within(0..self.accounts.len() as u64) as usize;
        let (id, last) = &mut self.accounts[index];
        (*id, last)
    }
}

fn event(position: u64, previous: u64, id: Uuid, event_type: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": position.to_string(), "source": "/test", "type": event_type,
        "subject": id, "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
        "dataschema": format!("urn:headwater:{event_type}:1"), "data": data,
        "position": position.to_string(), "previous": previous.to_string()})
}
