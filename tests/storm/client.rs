//! A client that contends with others for few accounts, addresses and names, and sends a command again until it
//! is answered.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::Kind;
use reqwest::StatusCode;
use serde_json::{Value, json};
use service_kit::Shutdown;
use uuid::Uuid;

use super::Chance;
use crate::history::{Answer, Attempt};

const ACCOUNTS: usize = 16;
const NAMES: u64 = 10;
/// Commands that may be sent once more.
const RECENT: usize = 50;
/// Longer than any pause, so that what a paused instance answers at its end is heard.
const PATIENCE: Duration = Duration::from_secs(120);
/// Others try elsewhere after this time.
const IMPATIENCE: Duration = Duration::from_secs(2);
const TRIES_MAX: u32 = 100;

/// What all clients know.
pub struct Shared {
    urls: Vec<String>,
    started: Instant,
    attempts: Mutex<Vec<Attempt>>,
    correlations: AtomicU64,
    accounts: Mutex<Vec<Uuid>>,
    orders: Mutex<VecDeque<Uuid>>,
    recent: Mutex<VecDeque<Sent>>,
    /// The latest that anybody was told, by aggregate.
    revisions: Mutex<HashMap<Uuid, u64>>,
}

impl Shared {
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            started: Instant::now(),
            attempts: Mutex::default(),
            correlations: AtomicU64::new(0),
            accounts: Mutex::new((0..ACCOUNTS).map(|_| Uuid::now_v7()).collect()),
            orders: Mutex::default(),
            recent: Mutex::default(),
            revisions: Mutex::default(),
        }
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Sent {
    kind: Kind,
    id: Uuid,
    name: &'static str,
    fields: Value,
    key: Option<String>,
    if_match: Option<u64>,
}

pub struct Client {
    shared: Arc<Shared>,
    chance: Chance,
    http: reqwest::Client,
}

impl Client {
    pub fn new(shared: Arc<Shared>, number: u64, seed: u64) -> Self {
        let patience = if number.is_multiple_of(4) { PATIENCE } else { IMPATIENCE };
        let http = reqwest::Client::builder().timeout(patience).build().unwrap();
        Self { shared, chance: Chance(seed ^ (number + 1) << 32), http }
    }

    pub async fn run(mut self, over: Shutdown) {
        while !over.is_cancelled() {
            let command = self.command();
            if command.key.is_some() && self.chance.one_in(8) {
                // The same command twice at the same time, in two places.
                let (one, other) = (self.url(), self.url());
                tokio::join!(self.send(&command, &one), self.send(&command, &other));
            } else {
                self.until_answered(&command).await;
            }
            tokio::time::sleep(Duration::from_millis(self.chance.below(10))).await;
        }
    }

    /// Sends a command until its outcome is known; one without a key once.
    async fn until_answered(&mut self, command: &Sent) {
        for _ in 0..TRIES_MAX {
            let url = self.url();
            let answer = self.send(command, &url).await;
            if command.key.is_none() || answer.is_some_and(|answer| answer != Answer::WithoutEffect) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no answer to `{}`", command.name);
    }

    fn url(&mut self) -> String {
        self.chance.of(&self.shared.urls).clone()
    }

    fn command(&mut self) -> Sent {
        let mut recent = self.shared.recent.lock().unwrap();
        if !recent.is_empty() && self.chance.one_in(8) {
            let mut command = recent[self.chance.below(recent.len() as u64) as usize].clone();
            if self.chance.one_in(3) {
                // Another command under the same key.
                (command.name, command.fields) = match command.kind {
                    Kind::Account => ("rename", json!({"name": "Somebody Else"})),
                    Kind::Order => ("cancel", json!({"reason": "another one"})),
                };
            }
            return command;
        }
        let (kind, id, name, fields) = choose(&mut self.chance, &self.shared);
        let key = (!self.chance.one_in(4)).then(|| Uuid::now_v7().to_string());
        let known = self.shared.revisions.lock().unwrap().get(&id).copied().unwrap_or_default();
        let if_match = self.chance.one_in(6).then(|| known.saturating_sub(self.chance.below(2)));
        let command = Sent { kind, id, name, fields, key, if_match };
        if command.key.is_some() {
            recent.push_back(command.clone());
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
        command
    }

    /// Sends a command once, and records what came of it.
    async fn send(&self, command: &Sent, url: &str) -> Option<Answer> {
        let Sent { kind, id, name, fields, key, if_match } = command.clone();
        let correlation = self.shared.correlations.fetch_add(1, Ordering::Relaxed).to_string();
        let mut request = self.http.post(format!("{url}/{}/{id}/{name}", kind.plural())).json(&fields);
        request = request.header("Correlation-Id", &correlation);
        if let Some(key) = &key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(revision) = if_match {
            request = request.header("If-Match", format!("\"{revision}\""));
        }
        let sent = self.shared.started.elapsed();
        let answer = read(request.send().await).await;
        let answered = answer.clone().map(|answer| (self.shared.started.elapsed(), answer));
        if let Some(Answer::Accepted { revision, .. }) = &answer {
            self.shared.revisions.lock().unwrap().insert(id, *revision);
        }
        let command = kind.command(name, &fields.to_string()).unwrap();
        self.shared.attempts.lock().unwrap().push(Attempt {
            correlation,
            id,
            command,
            key,
            if_match,
            sent,
            answered,
        });
        answer
    }
}

/// Any command to any aggregate; most make sense.
fn choose(chance: &mut Chance, shared: &Shared) -> (Kind, Uuid, &'static str, Value) {
    let mut accounts = shared.accounts.lock().unwrap();
    let chosen = chance.below(ACCOUNTS as u64) as usize;
    let account = accounts[chosen];
    let email = format!("e{}@example.org", chance.below(NAMES));
    let username = format!("u{}", chance.below(NAMES));
    let mut orders = shared.orders.lock().unwrap();
    match chance.below(10) {
        0..=2 => (Kind::Account, account, "register", json!({"email": email, "username": username})),
        3 => (Kind::Account, account, "change-email", json!({"email": email})),
        4 => (Kind::Account, account, "change-username", json!({"username": username})),
        5 => (Kind::Account, account, "rename", json!({"name": format!("Name {}", chance.below(3))})),
        6 if chance.one_in(2) => {
            // Its place is taken by one that can register.
            accounts[chosen] = Uuid::now_v7();
            (Kind::Account, account, "close", json!({}))
        }
        7 if !orders.is_empty() => {
            let order = orders[chance.below(orders.len() as u64) as usize];
            (Kind::Order, order, "cancel", json!({"reason": "storm"}))
        }
        _ => {
            let order = Uuid::now_v7();
            orders.push_back(order);
            if orders.len() > RECENT {
                orders.pop_front();
            }
            let fields =
                json!({"account_id": account, "quantity": 1, "amount_cents": 100, "currency": "USD"});
            (Kind::Order, order, "place", fields)
        }
    }
}

/// What an answer says; none if it does not tell the outcome.
async fn read(answer: reqwest::Result<reqwest::Response>) -> Option<Answer> {
    let answer = answer.ok()?;
    let status = answer.status();
    let body: Value = answer.json().await.ok()?;
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    Some(match status {
        StatusCode::OK | StatusCode::CREATED => Answer::Accepted {
            revision: body["revision"].as_u64().unwrap(),
            events: serde_json::from_value(body["events"].clone()).unwrap(),
        },
        StatusCode::PRECONDITION_FAILED => {
            Answer::RevisionMismatch { actual: text("accepted").trim_matches('"').parse().unwrap() }
        }
        StatusCode::UNPROCESSABLE_ENTITY if text("code") == "idempotency-key-reused" => Answer::KeyReused,
        StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
            Answer::Rejected(text("code"))
        }
        StatusCode::SERVICE_UNAVAILABLE => Answer::WithoutEffect,
        StatusCode::GATEWAY_TIMEOUT => return None,
        other => panic!("{other}: {body}"),
    })
}
