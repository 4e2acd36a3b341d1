//! Clients that get into each other's way: few accounts, fewer email addresses, and the same keys again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{Command, Kind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::random::Random;
use crate::history::{
    Answer, Attempt,
    recorder::{Recorder, Wish},
};

/// Accounts that are commanded at one time.
const ACCOUNTS: usize = 6;
/// So few names that most are taken most of the time.
const NAMES: u64 = 7;
/// Orders and wishes that may be commanded again.
const REMEMBERED: usize = 30;
/// How long a client waits for an answer: some hang up early, some wait for all that an instance tries.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_secs(3), Duration::from_secs(8), Duration::from_secs(20)];
/// A client rests up to so long after each wish.
const REST_MS_MAX: u64 = 15;
/// The pause before a command is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// In place of an instance.
pub const NOBODY: usize = usize::MAX;

/// What all clients share.
pub struct Sea {
    pub urls: Vec<String>,
    pub recorder: Recorder,
    pub is_over: AtomicBool,
    /// Commands acknowledged with events so far.
    pub acknowledged: AtomicU64,
    pub silence: Mutex<Silence>,
    /// The instance that is asleep: a request to it lasts as long as its client's patience, so it gets few.
    pub asleep: AtomicUsize,
    accounts: Mutex<Vec<Uuid>>,
    orders: Mutex<Vec<Uuid>>,
    /// The latest revisions that anybody has heard of.
    revisions: Mutex<HashMap<Uuid, u64>>,
}

/// The time in which nothing was acknowledged.
pub struct Silence {
    since: Instant,
    pub longest: Duration,
}

impl Silence {
    fn ends(&mut self) {
        self.longest = self.longest.max(self.since.elapsed());
        self.since = Instant::now();
    }
}

impl Sea {
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            recorder: Recorder::new(),
            is_over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            silence: Mutex::new(Silence { since: Instant::now(), longest: Duration::ZERO }),
            asleep: AtomicUsize::new(NOBODY),
            accounts: Mutex::new((0..ACCOUNTS).map(|_| Uuid::now_v7()).collect()),
            orders: Mutex::new(vec![Uuid::now_v7()]),
            revisions: Mutex::default(),
        }
    }

    fn heard(&self, attempt: &Attempt) {
        let Some(answered) = &attempt.answered else { return };
        let Answer::Accepted { revision, events, .. } = &answered.answer else { return };
        self.revisions.lock().unwrap().insert(attempt.aggregate, *revision);
        if !events.is_empty() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.silence.lock().unwrap().ends();
        }
        if events.iter().any(|event| event == "account.closed") {
            let mut accounts = self.accounts.lock().unwrap();
            if let Some(closed) = accounts.iter_mut().find(|account| **account == attempt.aggregate) {
                *closed = Uuid::now_v7();
            }
        }
    }
}

pub struct Client {
    pub sea: Arc<Sea>,
    pub random: Random,
    /// Wishes with a key, to be sent again later.
    wishes: Vec<Wish>,
    attempts: Vec<Attempt>,
}

impl Client {
    pub fn new(sea: Arc<Sea>, random: Random) -> Self {
        Self { sea, random, wishes: Vec::new(), attempts: Vec::new() }
    }

    /// Until it is over; all that has a key is sent until it is answered. Gives what was sent.
    pub async fn run(mut self) -> Vec<Attempt> {
        while !self.sea.is_over.load(Ordering::Relaxed) {
            match self.random.within(0..100) {
                0..10 if !self.wishes.is_empty() => {
                    let wish = self.random.one_of(&self.wishes).clone();
                    self.insist(wish).await;
                }
                10..25 => self.send_twice().await,
                25..75 => {
                    let wish = self.wish().keyed();
                    self.insist(wish).await;
                }
                _ => {
                    let wish = self.wish();
                    self.send(&wish).await;
                }
            }
            let rest = self.random.within(0..REST_MS_MAX);
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
        self.attempts
    }

    /// Under one key to two instances at once; now and then not quite the same command.
    async fn send_twice(&mut self) {
        let one = self.wish().keyed();
        let mut other = one.clone();
        if self.random.percent(30) {
            other.command = self.command_to(one.command.kind());
        }
        let (here, there) = (self.instance(), self.instance());
        let (soon, late) = (self.patience(), self.patience());
        let recorder = self.sea.recorder.clone();
        let attempts = tokio::join!(recorder.send(&here, &one, soon), recorder.send(&there, &other, late));
        for (attempt, wish) in [(attempts.0, one), (attempts.1, other)] {
            let is_settled = self.take(attempt);
            if !is_settled {
                self.insist(wish).await;
            }
        }
    }

    /// Sends a command until it is answered with what came of it.
    async fn insist(&mut self, wish: Wish) {
        while !self.send(&wish).await {
            tokio::time::sleep(RETRY_DELAY).await;
        }
        if self.wishes.len() == REMEMBERED {
            let forgotten = self.random.within(0..REMEMBERED as u64) as usize;
            self.wishes.swap_remove(forgotten);
        }
        self.wishes.push(wish);
    }

    /// Whether it was answered with what came of it.
    async fn send(&mut self, wish: &Wish) -> bool {
        let (url, patience) = (self.instance(), self.patience());
        let attempt = self.sea.recorder.send(&url, wish, patience).await;
        self.take(attempt)
    }

    fn take(&mut self, attempt: Attempt) -> bool {
        self.sea.heard(&attempt);
        let answered = attempt.answered.as_ref();
        let is_settled = answered.is_some_and(|answered| answered.answer != Answer::WithoutEffect);
        self.attempts.push(attempt);
        is_settled
    }

    fn wish(&mut self) -> Wish {
        let kind = if self.random.percent(70) { Kind::Account } else { Kind::Order };
        let command = self.command_to(kind);
        let aggregate = match kind {
            Kind::Account => self.account(),
            Kind::Order => self.order(),
        };
        let known = self.sea.revisions.lock().unwrap().get(&aggregate).copied();
        // What was heard last, or what is older than that.
        let if_match = known.filter(|_| self.random.percent(25));
        let if_match = if_match.map(|known| known - u64::from(self.random.percent(20)));
        Wish { if_match, ..Wish::new(aggregate, command) }
    }

    fn command_to(&mut self, kind: Kind) -> Command {
        let (one, other) = (self.random.within(0..NAMES), self.random.within(0..NAMES));
        let (email, username) = (format!("e{one}@example.org"), format!("u{other}"));
        let (name, fields): (&str, Value) = match (kind, self.random.within(0..100)) {
            (Kind::Account, 0..40) => ("register", json!({"email": email, "username": username})),
            (Kind::Account, 40..60) => ("change-email", json!({"email": email})),
            (Kind::Account, 60..72) => ("change-username", json!({"username": username})),
            (Kind::Account, 72..90) => ("rename", json!({"name": format!("n{one}")})),
            (Kind::Account, _) => ("close", json!({})),
            (Kind::Order, 0..75) => {
                let (account_id, cents) = (self.account(), 100 + one);
                let purchase = json!({"account_id": account_id, "quantity": 1, "amount_cents": cents,
                    "currency": "USD"});
                ("place", purchase)
            }
            (Kind::Order, _) => ("cancel", json!({"reason": format!("r{one}")})),
        };
        kind.command(name, &fields.to_string()).unwrap()
    }

    fn account(&mut self) -> Uuid {
        *self.random.one_of(&self.sea.accounts.lock().unwrap())
    }

    /// A new order as often as one that somebody else may command as well.
    fn order(&mut self) -> Uuid {
        let mut orders = self.sea.orders.lock().unwrap();
        if self.random.percent(50) {
            return *self.random.one_of(&orders);
        }
        let order = Uuid::now_v7();
        if orders.len() == REMEMBERED {
            orders.remove(0);
        }
        orders.push(order);
        order
    }

    fn instance(&mut self) -> String {
        let mut instance = self.random.within(0..self.sea.urls.len() as u64) as usize;
        if instance == self.sea.asleep.load(Ordering::Relaxed) && self.random.percent(95) {
            instance = (instance + 1) % self.sea.urls.len();
        }
        self.sea.urls[instance].clone()
    }

    fn patience(&mut self) -> Duration {
        *self.random.one_of(&PATIENCE)
    }
}
