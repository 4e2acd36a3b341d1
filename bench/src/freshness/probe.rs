//! One client that registers an account and reads it, again and again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::http1::{Connection, Request};
use crate::load::Measured;
use crate::reads::paths;
use crate::report::Row;
use crate::requests::{self, Command};

/// The command itself, from when it is sent until it is acknowledged.
const COMMAND: &str = "command";
/// From the acknowledgement until one read that says `Min-Position` is answered.
pub const ASKED_FOR: &str = "read with Min-Position";
/// From the acknowledgement until a read that asks for nothing finds the account; asked again at once until it does.
const POLLED: &str = "read again and again";

/// A view that does not show an account after this long counts as an error.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

pub struct Probe {
    pub commands: SocketAddr,
    pub queries: SocketAddr,
    pub warm_up: Duration,
    pub measure: Duration,
}

impl Probe {
    /// By turns with `Min-Position` and without.
    pub async fn run(&self, what: &'static str) -> Result<Vec<Row>> {
        let (mut command, mut asked_for, mut polled) =
            (Measured::new(self.measure)?, Measured::new(self.measure)?, Measured::new(self.measure)?);
        let mut clients = Clients::open(self).await?;
        let begin = Instant::now() + self.warm_up;
        let end = begin + self.measure;
        for count in 0_u64.. {
            let sent = Instant::now();
            if sent >= end {
                break;
            }
            let account = clients.register().await?;
            let acknowledged = Instant::now();
            let polls = !count.is_multiple_of(2);
            let visible = clients.read(&account, !polls).await?;
            if sent < begin {
                continue;
            }
            record(&mut command, Some(acknowledged - sent))?;
            let reads = if polls { &mut polled } else { &mut asked_for };
            record(reads, visible.map(|visible| visible - acknowledged))?;
        }
        let found = [(COMMAND, command), (ASKED_FOR, asked_for), (POLLED, polled)];
        let rows = found.map(|(name, measured)| Row::new(name, what, 1, &measured));
        rows.iter().for_each(|row| eprintln!("  {row}"));
        Ok(rows.into())
    }

    /// The end of the log, as an account that is registered now says it.
    pub async fn last_position(&self) -> Result<u64> {
        let account = Clients::open(self).await?.register().await?;
        Ok(account.position.parse()?)
    }
}

fn record(measured: &mut Measured, took: Option<Duration>) -> Result<()> {
    match took {
        Some(took) => {
            measured.succeeded += 1;
            measured.latencies.record(took.as_micros() as u64)?;
        }
        None => *measured.errors.entry("not to be seen".to_owned()).or_default() += 1,
    }
    Ok(())
}

struct Clients {
    commands: Connection,
    queries: Connection,
    request: Request,
}

struct Account {
    path: String,
    /// Of its registration.
    position: String,
}

impl Clients {
    async fn open(probe: &Probe) -> Result<Self> {
        let (commands, queries) =
            (Connection::open(probe.commands).await?, Connection::open(probe.queries).await?);
        Ok(Self { commands, queries, request: Request::default() })
    }

    async fn register(&mut self) -> Result<Account> {
        requests::each_new(Command::Register, 0, [].into())(&mut self.request);
        let answer = self.commands.call(&self.request).await?;
        ensure!(answer.status == 201, "{}", String::from_utf8_lossy(answer.body));
        let header = |name| answer.header(name).with_context(|| format!("an answer without {name}"));
        let id = header("location")?.rsplit('/').next().unwrap_or_default();
        Ok(Account { path: paths::narrow(&id.parse()?), position: header("log-position")?.to_owned() })
    }

    /// When it could be read; `None` if that took too long.
    async fn read(&mut self, account: &Account, asks: bool) -> Result<Option<Instant>> {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        let Account { path, position } = account;
        match asks {
            true => self.request.get(path, format_args!("min-position: {position}\r\n")),
            false => self.request.get(path, format_args!("")),
        }
        loop {
            let answer = self.queries.call(&self.request).await?;
            let now = Instant::now();
            match answer.status {
                200 => return Ok(Some(now)),
                // The view is behind, or does not have it yet.
                404 | 503 if now < give_up => {}
                404 | 503 => return Ok(None),
                status => anyhow::bail!("{status}: {}", String::from_utf8_lossy(answer.body)),
            }
        }
    }
}
