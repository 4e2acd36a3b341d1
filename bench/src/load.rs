//! Load: each connection sends a request, waits for its answer, and sends the next, at once or when it is due.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::http1::{Connection, Request};

/// A connection that broke is opened again after this long.
const RECONNECT_DELAY: Duration = Duration::from_millis(10);
/// Better than one in a thousand, up to any latency.
const SIGNIFICANT_DIGITS: u8 = 3;

/// How much load, for how long, and on whom.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    /// Until caches, connections and queues are as they will stay; not measured.
    pub warm_up: Duration,
    pub measure: Duration,
    pub pace: Pace,
}

/// When a connection that has its answer sends the next request.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// At once: the service decides how many requests there are.
    ClosedLoop,
    /// By the clock, all connections together so many a second, as long as answers come in time: whoever is still
    /// waiting when a request is due leaves it out.
    PerSecond(f64),
}

/// What a load came to.
pub struct Measured {
    /// Time measured.
    pub elapsed: Duration,
    /// Latencies of the successful answers within that time, in microseconds.
    pub latencies: Histogram<u64>,
    /// Successful answers ever, before and after that time included.
    pub succeeded: u64,
    /// What was no success, ever, by status or kind of failure.
    pub errors: BTreeMap<String, u64>,
}

impl Load {
    /// Of connections that send again as soon as they are answered.
    pub fn closed_loop(address: SocketAddr, connections: usize, warm_up_s: f64, measure_s: f64) -> Self {
        let [warm_up, measure] = [warm_up_s, measure_s].map(Duration::from_secs_f64);
        Self { address, connections, warm_up, measure, pace: Pace::ClosedLoop }
    }

    /// Runs the load. `requests` makes each connection's own source of requests; an answer with a status from
    /// 200 to 299 is a success.
    pub async fn run<R>(self, requests: impl Fn(usize) -> R) -> Result<Measured>
    where
        R: FnMut(&mut Request) + Send + 'static,
    {
        // What cannot be reached at all is no result.
        let first = Connection::open(self.address).await;
        first.with_context(|| format!("cannot connect to {}", self.address))?;
        let start = Instant::now();
        let begin = start + self.warm_up;
        let end = begin + self.measure;
        let mut clients = JoinSet::new();
        for index in 0..self.connections {
            let clock = self.clock(start, index);
            let client = Client { address: self.address, begin, end, clock, requests: requests(index) };
            clients.spawn(client.run());
        }
        let mut measured = Measured::new(self.measure)?;
        while let Some(client) = clients.join_next().await {
            measured.share(client?)?;
        }
        Ok(measured)
    }

    /// The clock of one connection: their requests are spread evenly.
    fn clock(&self, start: Instant, index: usize) -> Option<Clock> {
        let Pace::PerSecond(rate) = self.pace else { return None };
        let interval = Duration::from_secs_f64(self.connections as f64 / rate);
        let first = start + interval.mul_f64(index as f64 / self.connections as f64);
        Some(Clock { due: first, interval })
    }
}

struct Clock {
    due: Instant,
    interval: Duration,
}

impl Clock {
    /// Waits until the next request is due.
    async fn tick(&mut self) {
        sleep_until(self.due).await;
        let now = Instant::now();
        while self.due <= now {
            self.due += self.interval;
        }
    }
}

/// One connection's share. Latencies stay a plain list until the end: a histogram for each connection would not
/// fit into the processor's cache.
#[derive(Default)]
struct Share {
    latencies_us: Vec<u32>,
    succeeded: u64,
    errors: BTreeMap<String, u64>,
}

struct Client<R> {
    address: SocketAddr,
    begin: Instant,
    end: Instant,
    clock: Option<Clock>,
    requests: R,
}

impl<R: FnMut(&mut Request)> Client<R> {
    async fn run(mut self) -> Share {
        let mut share = Share::default();
        let mut request = Request::default();
        // Opened when it is needed: thousands that were opened before would be closed again for saying nothing.
        if let Some(clock) = &self.clock {
            sleep_until(clock.due).await;
        }
        let mut connection = match Connection::open(self.address).await {
            Ok(connection) => connection,
            Err(error) => {
                share.failed(error.kind().to_string());
                return share;
            }
        };
        loop {
            if let Some(clock) = &mut self.clock {
                clock.tick().await;
            }
            let sent = Instant::now();
            if sent >= self.end {
                return share;
            }
            (self.requests)(&mut request);
            let answer = connection.call(&request).await.map(|answer| answer.status);
            let now = Instant::now();
            match answer {
                Ok(200..300) => {
                    share.succeeded += 1;
                    if (self.begin..self.end).contains(&now) {
                        let took = (now - sent).as_micros();
                        share.latencies_us.push(took.try_into().unwrap_or(u32::MAX));
                    }
                }
                Ok(status) => share.failed(status.to_string()),
                Err(error) => {
                    share.failed(error.kind().to_string());
                    while let Err(error) = reconnect(self.address, &mut connection).await {
                        if Instant::now() >= self.end {
                            share.failed(error.kind().to_string());
                            return share;
                        }
                    }
                }
            }
        }
    }
}

async fn reconnect(address: SocketAddr, connection: &mut Connection) -> std::io::Result<()> {
    tokio::time::sleep(RECONNECT_DELAY).await;
    *connection = Connection::open(address).await?;
    Ok(())
}

impl Share {
    fn failed(&mut self, what: String) {
        *self.errors.entry(what).or_default() += 1;
    }
}

impl Measured {
    pub fn new(elapsed: Duration) -> Result<Self> {
        let latencies = Histogram::new(SIGNIFICANT_DIGITS)?;
        Ok(Self { elapsed, latencies, succeeded: 0, errors: BTreeMap::new() })
    }

    /// Counts one success that was not part of a load.
    pub fn took(&mut self, latency: Duration) -> Result<()> {
        self.elapsed += latency;
        self.succeeded += 1;
        self.latencies.record(latency.as_micros() as u64)?;
        Ok(())
    }

    /// Adds what was measured at another time.
    pub fn add(&mut self, other: Self) -> Result<()> {
        self.elapsed += other.elapsed;
        self.latencies.add(&other.latencies)?;
        self.succeeded += other.succeeded;
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
        Ok(())
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency in milliseconds that this share of the answers did not exceed.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.latencies.value_at_quantile(share) as f64 / 1000.0
    }

    pub fn mean_ms(&self) -> f64 {
        self.latencies.mean() / 1000.0
    }

    fn share(&mut self, share: Share) -> Result<()> {
        for latency in share.latencies_us {
            self.latencies.record(latency.into())?;
        }
        self.succeeded += share.succeeded;
        for (what, count) in share.errors {
            *self.errors.entry(what).or_default() += count;
        }
        Ok(())
    }
}
