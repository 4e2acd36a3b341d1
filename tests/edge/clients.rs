//! Clients of the edge: some write, the others read what was written, and each answer is looked at.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};
use uuid::Uuid;

use crate::harness::until;

/// Who has answered, as the edge says.
pub const UPSTREAM: &str = "x-headwater-upstream";

/// Between two requests of a client, so that they leave some of the machine to the services.
const READER_PAUSE: Duration = Duration::from_millis(2);
const WRITER_PAUSE: Duration = Duration::from_millis(10);

/// What came of all requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub queries: usize,
    pub commands: usize,
    pub failures: Vec<String>,
    /// Answers from before their `Min-Position`.
    pub stale: Vec<String>,
    pub served: BTreeMap<String, usize>,
    pub slowest_query: Duration,
    pub slowest_command: Duration,
}

impl Tally {
    pub fn served_by(&self, name: &str) -> usize {
        self.served.get(name).copied().unwrap_or_default()
    }

    /// How much has been served since `before`.
    pub fn served_since(&self, before: &Self, name: &str) -> usize {
        self.served_by(name) - before.served_by(name)
    }

    pub fn is_flawless(&self) {
        assert!(self.failures.is_empty() && self.stale.is_empty(), "{self:#?}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queries, commands, failures, stale, slowest_query, slowest_command, .. } = self;
        write!(
            formatter,
            "{queries} queries, {commands} commands, {} failed, {} stale; slowest query {} ms, slowest command {} ms",
            failures.len(),
            stale.len(),
            slowest_query.as_millis(),
            slowest_command.as_millis()
        )
    }
}

/// Clients that go on until they are told to stop.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// Whether each command of a client has an `Idempotency-Key`.
#[derive(Clone, Copy)]
enum Keys {
    One,
    None,
}

struct Shared {
    http: reqwest::Client,
    url: String,
    is_over: AtomicBool,
    /// The account that was registered last, and the position to read it from.
    written: Mutex<(Uuid, u64)>,
    tally: Mutex<Tally>,
}

impl Clients {
    /// Registers an account, so that there is something to read, and begins.
    pub async fn start(url: &str, readers: usize, writers: usize) -> Self {
        Self::start_with(url, readers, writers, 0).await
    }

    /// The same with writers whose commands have no key, so that the edge must not send them again.
    pub async fn start_with(url: &str, readers: usize, writers: usize, without_keys: usize) -> Self {
        let shared = Arc::new(Shared {
            http: reqwest::Client::new(),
            url: url.to_owned(),
            is_over: AtomicBool::new(false),
            written: Mutex::default(),
            tally: Mutex::default(),
        });
        shared.write(Keys::One).await;
        let readers = (0..readers).map(|_| tokio::spawn(shared.clone().read_on()));
        let writers = std::iter::repeat_n(Keys::One, writers);
        let writers = writers.chain(std::iter::repeat_n(Keys::None, without_keys));
        let writers = writers.map(|keys| tokio::spawn(shared.clone().write_on(keys)));
        let tasks = readers.chain(writers).collect();
        Self { shared, tasks }
    }

    /// What has come of their requests so far.
    pub fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Lets them go on for a while.
    pub async fn go_on(&self, duration: Duration) {
        sleep(duration).await;
    }

    /// Waits until each of these has answered so many more requests.
    pub async fn until_served_by(&self, names: &[&str], count: usize) {
        let before = self.tally();
        until(&format!("{names:?} have served {count} more"), async || {
            let now = self.tally();
            names.iter().all(|name| now.served_since(&before, name) >= count)
        })
        .await;
    }

    /// Waits until so many more commands were accepted.
    pub async fn until_accepted(&self, count: usize) {
        let before = self.tally().commands;
        until("commands are accepted", async || self.tally().commands >= before + count).await;
    }

    /// Ends them after their last answer.
    pub async fn stop(self) -> Tally {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.shared.tally().clone()
    }
}

impl Shared {
    async fn read_on(self: Arc<Self>) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.read().await;
            sleep(READER_PAUSE).await;
        }
    }

    async fn write_on(self: Arc<Self>, keys: Keys) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.write(keys).await;
            sleep(WRITER_PAUSE).await;
        }
    }

    /// A row and a list, each from no earlier than the last thing written.
    async fn read(&self) {
        let (account, position) = *self.written.lock().unwrap();
        for path in [format!("accounts/{account}?fields=username"), "accounts?limit=3&fields=id".to_owned()] {
            let request = self.http.get(format!("{}/queries/{path}", self.url));
            let started = Instant::now();
            let answer = sent(request.header("Min-Position", position)).await;
            let mut tally = self.tally();
            tally.queries += 1;
            tally.slowest_query = tally.slowest_query.max(started.elapsed());
            match answer {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let reflected: u64 = answer.header("log-position").parse().unwrap();
                    if reflected < position {
                        tally.stale.push(format!("{path} is of {reflected}, and not of {position}"));
                    }
                    *tally.served.entry(answer.header(UPSTREAM).to_owned()).or_default() += 1;
                }
                Ok(answer) => tally.failures.push(format!("{path}: {answer:?}")),
                Err(error) => tally.failures.push(format!("{path}: {error:?}")),
            }
        }
    }

    async fn write(&self, keys: Keys) {
        let id = Uuid::now_v7();
        let body = json!({"email": format!("{id}@example.org"), "username": id.simple().to_string()});
        let request = self.http.post(format!("{}/commands/accounts/{id}/register", self.url)).json(&body);
        let request = match keys {
            Keys::One => request.header("Idempotency-Key", id.to_string()),
            Keys::None => request,
        };
        let started = Instant::now();
        let answer = sent(request).await;
        let mut tally = self.tally();
        tally.slowest_command = tally.slowest_command.max(started.elapsed());
        match answer {
            Ok(answer) if answer.status == StatusCode::CREATED => {
                tally.commands += 1;
                *tally.served.entry(answer.header(UPSTREAM).to_owned()).or_default() += 1;
                let position = answer.header("log-position").parse().unwrap();
                let mut written = self.written.lock().unwrap();
                if position > written.1 {
                    *written = (id, position);
                }
            }
            Ok(answer) => tally.failures.push(format!("register: {answer:?}")),
            Err(error) => tally.failures.push(format!("register: {error:?}")),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }
}

/// An answer that has come whole.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    #[expect(dead_code, reason = "it is shown where an answer is not the right one")]
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }
}

async fn sent(request: RequestBuilder) -> reqwest::Result<Answered> {
    let answer: Response = request.timeout(Duration::from_secs(30)).send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    Ok(Answered { status, headers, body: answer.text().await? })
}
