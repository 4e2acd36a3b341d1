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
pub const NAMES: u64 = 7;
/// Orders and wishes that may be commanded again.
const REMEMBERED: usize = 30;
/// The same of accounts that are not hot.
const COLD_REMEMBERED: usize = 200;
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
    /// The last position that was acknowledged.
    pub written: AtomicU64,
    pub silence: Mutex<Silence>,
    /// The instance that is asleep: a request to it lasts as long as its client's patience, so it gets few.
    pub asleep: AtomicUsize,
    /// So many of a hundred commands are to accounts of which there are ever more, with names of their own.
    cold_percent: u64,
    accounts: Mutex<Vec<Uuid>>,
    cold: Mutex<Vec<Uuid>>,
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
    pub fn new() -> Self {
        Self { since: Instant::now(), longest: Duration::ZERO }
    }

    pub fn ends(&mut self) {
        self.longest = self.longest.max(self.since.elapsed());
        self.since = Instant::now();
    }
}

impl Sea {
    pub fn new(urls: Vec<String>) -> Self {
        Self::with(Recorder::new(), urls, 0)
    }

    pub fn with(recorder: Recorder, urls: Vec<String>, cold_percent: u64) -> Self {
        Self {
            urls,
            recorder,
            is_over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            written: AtomicU64::new(0),
            silence: Mutex::new(Silence::new()),
            asleep: AtomicUsize::new(NOBODY),
            cold_percent,
            accounts: Mutex::new((0..ACCOUNTS).map(|_| Uuid::now_v7()).collect()),
            cold: Mutex::default(),
            orders: Mutex::new(vec![Uuid::now_v7()]),
            revisions: Mutex::default(),
        }
    }

    /// One of the accounts that are commanded most.
    pub fn account(&self, random: &mut Random) -> Uuid {
        *random.one_of(&self.accounts.lock().unwrap())
    }

    /// One of the others, if there are any yet.
    pub fn cold_account(&self, random: &mut Random) -> Option<Uuid> {
        let cold = self.cold.lock().unwrap();
        (!cold.is_empty()).then(|| *random.one_of(&cold))
    }

    /// One of the orders that were placed, or are yet to be.
    pub fn order(&self, random: &mut Random) -> Uuid {
        *random.one_of(&self.orders.lock().unwrap())
    }

    /// An account of which nobody has heard.
    fn new_cold_account(&self) -> Uuid {
        let (account, mut cold) = (Uuid::now_v7(), self.cold.lock().unwrap());
        if cold.len() == COLD_REMEMBERED {
            cold.remove(0);
        }
        cold.push(account);
        account
    }

    fn heard(&self, attempt: &Attempt) {
        let Some(answered) = &attempt.answered else { return };
        let Answer::Accepted { revision, events, .. } = &answered.answer else { return };
        self.written.fetch_max(*revision, Ordering::Relaxed);
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
        self.go_on().await
    }

    /// The same of one that can go on after that.
    pub async fn go_on(&mut self) -> Vec<Attempt> {
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
        std::mem::take(&mut self.attempts)
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
        if self.sea.cold_percent > 0 && self.random.percent(self.sea.cold_percent) {
            return self.cold_wish();
        }
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

    /// Something that gets into nobody's way.
    fn cold_wish(&mut self) -> Wish {
        let choice = self.random.within(0..100);
        let known = if choice < 40 { None } else { self.sea.cold_account(&mut self.random) };
        let name = Uuid::now_v7().simple().to_string();
        let email = format!("{name}@example.org");
        let (aggregate, kind, command, fields) = match (known, choice) {
            (None, _) => {
                let fields = json!({"email": email, "username": name});
                (self.sea.new_cold_account(), Kind::Account, "register", fields)
            }
            (Some(account), ..70) => (account, Kind::Account, "change-email", json!({"email": email})),
            (Some(account), _) => {
                let purchase =
                    json!({"account_id": account, "quantity": 1, "amount_cents": choice, "currency": "USD"});
                (Uuid::now_v7(), Kind::Order, "place", purchase)
            }
        };
        Wish::new(aggregate, kind.command(command, &fields.to_string()).unwrap())
    }

    fn account(&mut self) -> Uuid {
        self.sea.account(&mut self.random)
    }

    /// A new order as often as one that somebody else may command as well.
    fn order(&mut self) -> Uuid {
        if self.random.percent(50) {
            return self.sea.order(&mut self.random);
        }
        let mut orders = self.sea.orders.lock().unwrap();
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
