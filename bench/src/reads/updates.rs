//! Reads of rows that change all the time, each answer of which is compared with the log afterwards.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use coherence::{Answers, Given, QuestionId};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use uuid::Uuid;

use super::paths;
use crate::http1::{Answer, Connection, Request};
use crate::load::Measured;
use crate::random::{Random, Zipf};
use crate::requests;

/// Connections that send commands, each in its own rhythm.
const WRITERS: u32 = 10;
/// Of a connection's reads, one in so many asks for a list.
const LIST_EVERY: usize = 16;
/// A connection that broke is opened again after this long.
const RECONNECT_DELAY: Duration = Duration::from_millis(10);
/// Of a connection's reads, one in so many asks for what the latest acknowledged command has written.
const AT_LEAST_EVERY: usize = 16;

/// Readers and writers of the same rows.
pub struct Updates {
    pub queries: SocketAddr,
    pub commands: SocketAddr,
    /// The rows that are read and changed, the first ones most.
    pub accounts: Arc<[Uuid]>,
    pub readers: usize,
    pub commands_per_second: u32,
    /// Until caches and connections are as they will stay; answers are compared with the log, and not counted.
    pub warm_up: Duration,
    pub measure: Duration,
}

/// What came of it.
pub struct Found {
    pub reads: Measured,
    /// Of the reads of a row by its key, the share that the cache answered.
    pub hit_ratio: f64,
    pub commands: u64,
    pub answers: Answers,
}

/// What all connections know.
struct Shared {
    begin: Instant,
    answers: Answers,
    /// The position that was acknowledged last.
    written: u64,
    commands: u64,
    hits: u64,
    rows: u64,
    latencies: Histogram<u64>,
    errors: std::collections::BTreeMap<String, u64>,
}

impl Updates {
    pub async fn run(self) -> Result<Found> {
        let reads = Measured::new(self.measure)?;
        let begin = Instant::now() + self.warm_up;
        let end = begin + self.measure;
        let shared = Arc::new(Mutex::new(Shared {
            begin,
            answers: Answers::default(),
            written: 0,
            commands: 0,
            hits: 0,
            rows: 0,
            latencies: reads.latencies,
            errors: reads.errors,
        }));
        let questions: Arc<[(String, QuestionId)]> = {
            let mut shared = lock(&shared);
            let rows = self.accounts.iter().map(|id| format!("/accounts/{id}?fields=username,name,revision"));
            let lists = self.accounts.iter().map(paths::orders).chain([paths::NEWEST_ACCOUNTS.to_owned()]);
            rows.chain(lists)
                .map(|path| Ok((path.clone(), shared.answers.ask(&path)?)))
                .collect::<Result<_>>()?
        };
        let mut all = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer { number, end, accounts: self.accounts.clone(), shared: shared.clone() };
            all.spawn(writer.run(self.commands, f64::from(self.commands_per_second) / f64::from(WRITERS)));
        }
        for number in 0..self.readers {
            let reader = Reader { number, end, questions: questions.clone(), shared: shared.clone() };
            all.spawn(reader.run(self.queries, self.accounts.len()));
        }
        while let Some(ended) = all.join_next().await {
            ended??;
        }
        let shared = Arc::into_inner(shared).ok_or_else(|| anyhow!("a connection goes on"))?;
        let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let succeeded = shared.latencies.len();
        Ok(Found {
            reads: Measured {
                elapsed: self.measure,
                latencies: shared.latencies,
                succeeded,
                errors: shared.errors,
            },
            hit_ratio: shared.hits as f64 / shared.rows.max(1) as f64,
            commands: shared.commands,
            answers: shared.answers,
        })
    }
}

struct Writer {
    number: u32,
    end: Instant,
    accounts: Arc<[Uuid]>,
    shared: Arc<Mutex<Shared>>,
}

impl Writer {
    /// Renames accounts, by the clock and not by the answers.
    async fn run(self, commands: SocketAddr, per_second: f64) -> Result<()> {
        let mut connection = Connection::open(commands).await?;
        let mut request = Request::default();
        let (zipf, mut random) = (Zipf::over(self.accounts.len()), Random::new(u64::from(self.number)));
        let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for count in 0_u64.. {
            ticks.tick().await;
            if Instant::now() >= self.end {
                break;
            }
            let account = self.accounts[zipf.choose(&mut random)];
            requests::rename(&mut request, account, format_args!("Name {} {count}", self.number));
            let answer = connection.call(&request).await.context("a command was not answered")?;
            let mut shared = lock(&self.shared);
            match (answer.status, position(&answer)) {
                (200..300, Some(position)) => {
                    shared.commands += u64::from(Instant::now() >= shared.begin);
                    shared.written = shared.written.max(position);
                }
                (status, _) => shared.failed(format!("command: {status}")),
            }
        }
        Ok(())
    }
}

struct Reader {
    number: usize,
    end: Instant,
    /// Those for rows, then those for lists.
    questions: Arc<[(String, QuestionId)]>,
    shared: Arc<Mutex<Shared>>,
}

impl Reader {
    async fn run(self, queries: SocketAddr, rows: usize) -> Result<()> {
        let mut connection = Connection::open(queries).await?;
        let mut request = Request::default();
        let (zipf, mut random) = (Zipf::over(rows), Random::new(1000 + self.number as u64));
        for count in 0.. {
            let sent = Instant::now();
            if sent >= self.end {
                break;
            }
            let place = self.choose(count, rows, &zipf, &mut random);
            let (path, question) = &self.questions[place];
            let asks = count % AT_LEAST_EVERY == self.number % AT_LEAST_EVERY;
            let at_least = if asks { lock(&self.shared).written } else { 0 };
            match at_least {
                0 => request.get(path, format_args!("")),
                _ => request.get(path, format_args!("min-position: {at_least}\r\n")),
            }
            match connection.call(&request).await {
                Ok(answer) => {
                    let took = sent.elapsed();
                    lock(&self.shared).read(*question, self.number, at_least, place < rows, took, &answer)?;
                }
                Err(error) => {
                    lock(&self.shared).failed(error.kind().to_string());
                    sleep_until(Instant::now() + RECONNECT_DELAY).await;
                    connection = Connection::open(queries).await?;
                }
            }
        }
        Ok(())
    }

    /// Which question comes next: most for a row, some for the orders of an account, few for the newest accounts.
    fn choose(&self, count: usize, rows: usize, zipf: &Zipf, random: &mut Random) -> usize {
        match count % LIST_EVERY {
            0 if count.is_multiple_of(LIST_EVERY * LIST_EVERY) => self.questions.len() - 1,
            0 => rows + zipf.choose(random),
            _ => zipf.choose(random),
        }
    }
}

impl Shared {
    fn read(
        &mut self,
        question: QuestionId,
        client: usize,
        at_least: u64,
        is_row: bool,
        took: Duration,
        answer: &Answer<'_>,
    ) -> Result<()> {
        let (200, Some(position)) = (answer.status, position(answer)) else {
            self.failed(answer.status.to_string());
            return Ok(());
        };
        let counts = Instant::now() >= self.begin;
        if counts {
            self.latencies.record(took.as_micros() as u64)?;
        }
        if is_row && counts {
            self.rows += 1;
            self.hits +=
                u64::from(answer.header("cache-status").is_some_and(|status| status.contains("; hit")));
        }
        let given = Given { status: 200, position, etag: answer.header("etag"), body: answer.body };
        self.answers.note(question, client as u32, at_least, given);
        Ok(())
    }

    fn failed(&mut self, what: String) {
        *self.errors.entry(what).or_default() += 1;
    }
}

fn position(answer: &Answer<'_>) -> Option<u64> {
    answer.header("log-position")?.parse().ok()
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
