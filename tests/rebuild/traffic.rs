//! Clients who notice nothing of a rebuild.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};
use uuid::Uuid;

use super::{CENTS, CUSTOMERS};
use crate::harness::{Call, World, until};

/// Each reader reads so often: all the time, and yet the machine has time for the rebuild.
const PACE: Duration = Duration::from_millis(10);

/// Customers who order, and readers who look at what comes of it, until it is stopped.
pub struct Traffic {
    pub shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

pub struct Shared {
    commands: String,
    queries: String,
    http: reqwest::Client,
    stop: AtomicBool,
    /// For each customer, the orders that were acknowledged.
    acknowledged: Mutex<BTreeMap<u128, u64>>,
    last_position: AtomicU64,
    answers: AtomicU64,
    /// What each order counts by now: a reader that saw it change does not see it change back.
    pub counts: AtomicU64,
}

impl Traffic {
    pub fn start(world: &World, orders_each: u64) -> Self {
        let shared = Arc::new(Shared {
            commands: world.commands.url.clone(),
            queries: world.queries.url.clone(),
            http: reqwest::Client::new(),
            stop: AtomicBool::new(false),
            acknowledged: Mutex::new((1..=CUSTOMERS).map(|id| (id, orders_each)).collect()),
            last_position: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            counts: AtomicU64::new(1),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().order());
        tasks.spawn(shared.clone().read_rows());
        tasks.spawn(shared.clone().read_lists(false));
        tasks.spawn(shared.clone().read_lists(true));
        Self { shared, tasks }
    }

    /// Everybody has had so many more answers.
    pub async fn goes_on(&self) {
        let answers = || self.shared.answers.load(Ordering::Relaxed);
        let before = answers();
        until("queries were answered", async || answers() > before + 60).await;
    }

    pub async fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A task that found something wrong has panicked.
        self.tasks.join_all().await;
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn order(self: Arc<Self>) {
        let mut customer = 1;
        // Without a pause: whoever waits for one to come waits for ever.
        while self.goes_on() {
            let body = json!({"account_id": Uuid::from_u128(customer), "quantity": 1, "amount_cents": CENTS,
                "currency": "USD", "placed_at": "1997-01-01T12:00:00Z"});
            let order =
                Call::new(self.http.post(format!("{}/orders/place", self.commands))).json(&body).send().await;
            assert_eq!(order.status, StatusCode::CREATED, "{order:?}");
            *self.acknowledged.lock().unwrap().get_mut(&customer).unwrap() += 1;
            self.last_position.store(order.body["position"].as_u64().unwrap(), Ordering::Release);
            customer = 1 + customer % CUSTOMERS;
        }
    }

    async fn get(&self, path: &str, least: Option<u64>) -> (u64, Value) {
        let mut call = Call::new(self.http.get(format!("{}{path}", self.queries)));
        if let Some(least) = least {
            call = call.header("Min-Position", least);
        }
        let answer = call.send().await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        self.answers.fetch_add(1, Ordering::Relaxed);
        let position = answer.header("log-position").parse().unwrap();
        assert!(position >= least.unwrap_or_default(), "{answer:?}");
        (position, answer.body)
    }

    /// How much of the answer is what one order counts, which is the same in all rows.
    fn counts(&self, row: &Value) -> u64 {
        let (orders, cents) = (row["orders"].as_u64().unwrap(), row["spent_cents"].as_u64().unwrap());
        assert_eq!(cents % (orders * CENTS as u64), 0, "{row}");
        cents / (orders * CENTS as u64)
    }

    /// What was acknowledged is in the answer.
    async fn read_rows(self: Arc<Self>) {
        let (mut customer, mut before) = (1, 0);
        let mut pace = interval(PACE);
        while self.goes_on() {
            pace.tick().await;
            let least = self.last_position.load(Ordering::Acquire);
            let acknowledged = self.acknowledged.lock().unwrap()[&customer];
            // The order that was counted just now is at the latest the next one.
            let path = format!("/customers/{}?fields=orders,spent_cents", Uuid::from_u128(customer));
            let (position, row) = self.get(&path, Some(least)).await;
            assert!(row["orders"].as_u64().unwrap() + 1 >= acknowledged, "{row} of {acknowledged}");
            self.counts(&row);
            assert!(position >= before, "from {before} back to {position}");
            (customer, before) = (1 + customer % CUSTOMERS, position);
        }
    }

    /// Each list has exactly the orders up to its position.
    async fn read_lists(self: Arc<Self>, is_patient: bool) {
        let (mut before, mut counted) = (0, 1);
        let mut pace = interval(PACE);
        while self.goes_on() {
            pace.tick().await;
            let least = is_patient.then(|| self.last_position.load(Ordering::Acquire));
            let path = "/customers?sort=-spent_cents&limit=100&fields=id,orders,spent_cents";
            let (position, list) = self.get(path, least).await;
            let items = list["items"].as_array().unwrap();
            let orders: u64 = items.iter().map(|row| row["orders"].as_u64().unwrap()).sum();
            assert_eq!(orders, position - CUSTOMERS as u64, "at {position}: {list}");
            let counts = self.counts(&items[0]);
            assert!(items.iter().all(|row| self.counts(row) == counts), "old and new mixed: {list}");
            assert!(position >= before, "from {before} back to {position}");
            assert!(counts >= counted, "what an order counts went back from {counted} to {counts}");
            (before, counted) = (position, counts);
            self.counts.fetch_max(counts, Ordering::Relaxed);
        }
    }
}
