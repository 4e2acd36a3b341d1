//! `umadb-client-loop <url> <register|place> <connections> <seconds before> <seconds measured>`: each connection
//! appends an event, waits until it is acknowledged, and appends the next. Prints JSON in the end.

mod umadb;

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mimalloc::MiMalloc;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use umadb::{Event, append_first};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A server that has just been started is waited for.
const READY_WITHIN: Duration = Duration::from_secs(20);
const RETRY_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Command {
    /// An account whose id, email address and username nobody else has.
    Register,
    /// An order whose id no other has.
    Place,
}

#[derive(Default, Serialize)]
struct Told {
    latencies_us: Vec<u64>,
    succeeded: u64,
    errors: BTreeMap<String, u64>,
}

/// In one thread, as the client of the others is.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [url, command, connections, before, measured] = args.as_slice() else {
        bail!("expected 5 arguments")
    };
    let command = match command.as_str() {
        "register" => Command::Register,
        "place" => Command::Place,
        other => bail!("`{other}` is no command"),
    };
    let seconds = |text: &str| anyhow::Ok(Duration::try_from_secs_f64(text.parse()?)?);
    let (before, measured) = (seconds(before)?, seconds(measured)?);
    let mut channels = Vec::new();
    for _ in 0..connections.parse::<usize>()? {
        channels.push(connect(url).await?);
    }
    let begin = Instant::now() + before;
    let end = begin + measured;
    let mut loops = JoinSet::new();
    for channel in channels {
        loops.spawn(append_until(channel, command, begin, end));
    }
    let mut told = Told::default();
    while let Some(share) = loops.join_next().await {
        let share = share?;
        told.latencies_us.extend(share.latencies_us);
        told.succeeded += share.succeeded;
        for (error, count) in share.errors {
            *told.errors.entry(error).or_default() += count;
        }
    }
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

async fn connect(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let give_up = Instant::now() + READY_WITHIN;
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) if Instant::now() > give_up => return Err(error).context("UmaDB does not answer"),
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

async fn append_until(channel: Channel, command: Command, begin: Instant, end: Instant) -> Told {
    let mut told = Told::default();
    loop {
        let sent = Instant::now();
        if sent >= end {
            return told;
        }
        let appended = append_first(&channel, command.event()).await;
        let now = Instant::now();
        match appended {
            Ok(_) => {
                told.succeeded += 1;
                if (begin..end).contains(&now) {
                    told.latencies_us.push((now - sent).as_micros() as u64);
                }
            }
            Err(status) => *told.errors.entry(status.code().to_string()).or_default() += 1,
        }
    }
}

impl Command {
    fn event(self) -> Event {
        let id = Uuid::now_v7();
        let name = id.simple();
        let (event_type, tags, data) = match self {
            Self::Register => (
                "account.registered",
                vec![
                    format!("account:{id}"),
                    format!("email:{name}@example.org"),
                    format!("username:{name}"),
                ],
                format!(r#"{{"email":"{name}@example.org","username":"{name}"}}"#),
            ),
            Self::Place => (
                "order.placed",
                vec![format!("order:{id}")],
                format!(r#"{{"account_id":"{id}","quantity":1,"amount_cents":2933,"currency":"USD"}}"#),
            ),
        };
        Event {
            event_type: event_type.to_owned(),
            tags,
            data: data.into_bytes(),
            uuid: Uuid::now_v7().to_string(),
        }
    }
}
