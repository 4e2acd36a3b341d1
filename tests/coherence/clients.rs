//! Clients that read rows and lists while others change them, and note every answer.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use coherence::{Answers, Given, QuestionId};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    harness::{World, until, verify},
    storm::random::Random,
};

const ACCOUNTS: usize = 6;
/// So few that they pass from one account to another.
const EMAILS: u64 = 4;
const READERS: u64 = 6;
const WRITERS: u64 = 2;
/// A request that takes longer is given up; while NATS is away some take as long as the service tries.
const PATIENCE: Duration = Duration::from_secs(3);

pub struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all clients know.
struct Shared {
    commands: String,
    queries: String,
    accounts: Vec<Uuid>,
    questions: Vec<(String, QuestionId)>,
    answers: Mutex<Answers>,
    is_over: AtomicBool,
    /// Commands acknowledged so far.
    commanded: AtomicU64,
    read: AtomicU64,
    /// The position that was acknowledged last.
    written: AtomicU64,
    hits: AtomicU64,
    /// Of the readers: those of different generations know nothing of each other.
    generation: AtomicU64,
}

impl Clients {
    /// Registers some accounts, and begins to read and change them and their orders.
    pub async fn start(world: &World) -> Self {
        let mut accounts = Vec::new();
        for number in 0..ACCOUNTS {
            accounts.push(world.registered(&format!("hot-{number}")).await);
        }
        let mut answers = Answers::default();
        let questions = paths(&accounts)
            .into_iter()
            .map(|path| {
                let question = answers.ask(&path).unwrap();
                (path, question)
            })
            .collect();
        let shared = Arc::new(Shared {
            commands: world.commands.url.clone(),
            queries: world.queries.url.clone(),
            accounts,
            questions,
            answers: Mutex::new(answers),
            is_over: AtomicBool::new(false),
            commanded: AtomicU64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(ACCOUNTS as u64),
            hits: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        });
        let mut tasks = Vec::new();
        for number in 0..WRITERS {
            tasks.push(tokio::spawn(Writer::new(shared.clone(), number).run()));
        }
        for number in 0..READERS {
            tasks.push(tokio::spawn(Reader::new(shared.clone(), number).run()));
        }
        Self { shared, tasks }
    }

    /// Returns after so many more reads were answered and commands acknowledged.
    pub async fn go_on(&self, reads: u64, commands: u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let until_read = count(&self.shared.read) + reads;
        let until_commanded = count(&self.shared.commanded) + commands;
        until("clients have read and commanded", async || {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a client gave up");
            count(&self.shared.read) >= until_read && count(&self.shared.commanded) >= until_commanded
        })
        .await;
    }

    /// Whoever asks for nothing in particular is given what is written now, or something later.
    pub async fn until_answers_reach_what_is_written(&self) {
        let written = self.shared.written.load(Ordering::Relaxed);
        let http = reqwest::Client::new();
        for (path, _) in &self.shared.questions {
            let url = format!("{}{path}", self.shared.queries);
            until(&format!("{path} reaches {written}"), async || {
                let answer = http.get(&url).send().await.unwrap();
                position(&answer).is_some_and(|position| position >= written)
            })
            .await;
        }
    }

    /// Waits until nothing is given any more, not even from memory.
    pub async fn until_nothing_is_answered(&self) {
        let http = reqwest::Client::new();
        for (path, _) in &self.shared.questions {
            let url = format!("{}{path}", self.shared.queries);
            until(&format!("{path} is not answered"), async || {
                http.get(&url).send().await.unwrap().status().is_server_error()
            })
            .await;
        }
    }

    /// From here on they may be given what is older than what they were given before.
    pub fn forget(&self) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends all clients, and compares what they were answered with the log.
    pub async fn stop(self, world: &World) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        verify(&world.place).await;
        let answers = std::mem::take(&mut *self.shared.answers.lock().unwrap());
        let verdict = ::coherence::check(&world.place.log().await, &answers).await.unwrap();
        println!("{verdict}; {} hits", self.shared.hits.load(Ordering::Relaxed));
        assert!(verdict.is_clean(), "{verdict}");
        // Answers that never change prove nothing.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let chances = count(&self.shared.commanded).min(count(&self.shared.read));
        assert!(verdict.bodies as u64 > chances / 4, "{verdict}");
    }
}

/// Rows by their keys, narrow and wide, and lists by columns that change and by columns that do not.
fn paths(accounts: &[Uuid]) -> Vec<String> {
    let mut paths: Vec<String> = accounts
        .iter()
        .flat_map(|id| {
            [
                format!("/accounts/{id}?fields=name,revision"),
                format!("/accounts/{id}"),
                format!("/customers/{id}?fields=orders,spent_cents"),
                format!("/orders?account_id={id}&sort=-placed_at&limit=3&fields=id,amount_cents,placed_at"),
            ]
        })
        .collect();
    paths.extend((0..EMAILS).map(|number| format!("/accounts?email={}&fields=id,name", email(number))));
    paths.push("/accounts?status=active&sort=-created_at&limit=3&fields=id,revision".to_owned());
    paths.push("/orders?sort=-placed_at&limit=5&fields=id,status".to_owned());
    paths.push(format!("/accounts?id={},{}&fields=id,name", accounts[0], accounts[1]));
    paths
}

fn email(number: u64) -> String {
    format!("passed-on-{number}@example.org")
}

fn position(answer: &Response) -> Option<u64> {
    answer.headers().get("log-position")?.to_str().unwrap().parse().ok()
}

struct Writer {
    shared: Arc<Shared>,
    http: reqwest::Client,
    number: u64,
    random: Random,
    orders: Vec<Uuid>,
}

impl Writer {
    fn new(shared: Arc<Shared>, number: u64) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { shared, http, number, random: Random::new(1, number), orders: Vec::new() }
    }

    async fn run(mut self) {
        for count in 0.. {
            if self.shared.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (path, body) = self.choose(count);
            let url = format!("{}{path}", self.shared.commands);
            // While NATS is away nothing can be written.
            let Ok(answer) = self.http.post(url).json(&body).send().await else { continue };
            match answer.status() {
                StatusCode::OK | StatusCode::CREATED => {
                    self.shared.written.fetch_max(position(&answer).unwrap(), Ordering::Relaxed);
                    self.shared.commanded.fetch_add(1, Ordering::Relaxed);
                }
                // A taken address, an order that is cancelled already, or one that was never placed, because NATS was
                // away.
                StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND => {}
                status if status.is_server_error() => tokio::task::yield_now().await,
                status => panic!("{path}: {status} {}", answer.text().await.unwrap()),
            }
        }
    }

    fn choose(&mut self, count: u64) -> (String, Value) {
        let account = *self.random.one_of(&self.shared.accounts);
        let number = self.number;
        match self.random.within(0..100) {
            0..50 => {
                (format!("/accounts/{account}/rename"), json!({"name": format!("Name {number} {count}")}))
            }
            50..65 => {
                let email = email(self.random.within(0..EMAILS));
                (format!("/accounts/{account}/change-email"), json!({ "email": email }))
            }
            65..70 => {
                let name = format!("new-{number}-{count}");
                (
                    "/accounts/register".to_owned(),
                    json!({"email": format!("{name}@example.org"), "username": name}),
                )
            }
            70..80 if !self.orders.is_empty() => {
                let order = *self.random.one_of(&self.orders);
                (format!("/orders/{order}/cancel"), json!({"reason": "late"}))
            }
            _ => {
                let order = Uuid::now_v7();
                self.orders.push(order);
                let cents = self.random.within(1..10_000);
                let body =
                    json!({"account_id": account, "quantity": 1, "amount_cents": cents, "currency": "USD"});
                (format!("/orders/{order}/place"), body)
            }
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    http: reqwest::Client,
    number: u64,
    random: Random,
    /// The `ETag` that was given last.
    etags: HashMap<QuestionId, String>,
}

impl Reader {
    fn new(shared: Arc<Shared>, number: u64) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { shared, http, number, random: Random::new(2, number), etags: HashMap::new() }
    }

    async fn run(mut self) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let shared = self.shared.clone();
            let (path, question) = self.random.one_of(&shared.questions);
            let generation = shared.generation.load(Ordering::Relaxed);
            let mut request = self.http.get(format!("{}{path}", shared.queries));
            let mut at_least = 0;
            if self.random.percent(15) {
                at_least = shared.written.load(Ordering::Relaxed);
                request = request.header("Min-Position", at_least).header("Prefer", "wait=1");
            }
            if let Some(etag) = self.etags.get(question).filter(|_| self.random.percent(25)) {
                request = request.header("If-None-Match", etag);
            }
            let answer = match request.send().await {
                // What nobody was told cannot be wrong; that enough is told, others look after.
                Err(error) if error.is_timeout() => continue,
                answer => answer.unwrap(),
            };
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                continue;
            }
            let reader = (generation * READERS + self.number) as u32;
            self.note(reader, path, *question, at_least, answer).await;
        }
    }

    async fn note(&mut self, reader: u32, path: &str, question: QuestionId, at_least: u64, answer: Response) {
        let status = answer.status().as_u16();
        let Some(position) = position(&answer) else {
            panic!("{path}: {status} {}", answer.text().await.unwrap());
        };
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
        let etag = header("etag");
        if header("cache-status").is_some_and(|status| status.contains("; hit")) {
            self.shared.hits.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(etag) = etag.clone() {
            self.etags.insert(question, etag);
        }
        let body = answer.bytes().await.unwrap();
        let given = Given { status, position, etag: etag.as_deref(), body: &body };
        self.shared.answers.lock().unwrap().note(question, reader, at_least, given);
        self.shared.read.fetch_add(1, Ordering::Relaxed);
    }
}
