//! What reading the log takes by itself: a consumer that counts frames, and one that decodes events, each a program of
//! its own, as the projector is.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, consumer::pull};
use clap::{Args, ValueEnum};
use domain::Event;
use event_log::{Checkpoint, EventLog};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use stack::program;
use tokio::time::{Instant, timeout};

use super::arena::{Meter, Own};
use super::{COUNT, DECODE, LOG};
use crate::contestants::{NAMESPACE, Site};
use crate::processes::{Memory, ProcessorTime};
use crate::report::Pass;

/// As the frame's headers say it.
const COUNT_HEADER: &str = "Headwater-Count";
/// About half a megabyte each. Of the usual 200, nats-server would send more at once than it keeps for a client that
/// is slow to take it (`max_pending`), and end the connection. More than 16 are no faster.
const FRAMES_UNDER_WAY_MAX: i64 = 32;
/// The log is full: a consumer that gets nothing for so long gets nothing more.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(value_enum)]
    kind: Kind,

    /// Events in the log
    #[arg(long)]
    events: u64,

    /// URL of the NATS server
    #[arg(long, env = "NATS_URL")]
    nats_url: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// An ordered consumer of JetStream, which looks at nothing but the frames' headers
    Count,
    /// A follower of the log, every event of which is decoded and dropped
    Decode,
}

/// What the program has to tell in the end, on a line of its own.
#[derive(Serialize, Deserialize)]
struct Consumed {
    elapsed: Duration,
    processor: Duration,
    peak_mb: f64,
}

/// Starts a consumer of `kind`, and waits until it has read the log of `site` with so many events.
pub async fn pass(site: &Site, meter: Meter, kind: Kind, events: u64) -> Result<Pass> {
    let name = kind.name();
    let log = site.log_file(name);
    let mut consumer = Command::new(std::env::current_exe()?);
    consumer.args(["consume", name, "--events", &events.to_string()]);
    consumer.env("NATS_URL", site.nats.url());
    program::run_once(name, consumer, &log).await?;
    let told = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let Consumed { elapsed, processor, peak_mb } =
        serde_json::from_str(told.lines().last().unwrap_or_default())
            .with_context(|| format!("{name} told something else than what it took: {told}"))?;
    meter.pass(name, LOG, Own { elapsed, processor, peak_mb: Some(peak_mb) })
}

/// Reads the log to its end, and tells what that took.
pub async fn consume(options: Options) -> Result<()> {
    let Options { kind, events, nats_url } = options;
    let started = Instant::now();
    let client = service_kit::nats::connect_now(&nats_url, "bench").await?;
    match kind {
        Kind::Count => count(client, events).await?,
        Kind::Decode => decode(client, events).await?,
    }
    let us = std::process::id();
    let consumed = Consumed {
        elapsed: started.elapsed(),
        processor: ProcessorTime::of(us)?.total(),
        peak_mb: Memory::of(us)?.peak_mb,
    };
    println!("{}", serde_json::to_string(&consumed)?);
    Ok(())
}

async fn count(client: async_nats::Client, events: u64) -> Result<()> {
    let stream = jetstream::new(client).get_stream(format!("{NAMESPACE}_LOG")).await?;
    let config = pull::OrderedConfig { max_batch: FRAMES_UNDER_WAY_MAX, ..Default::default() };
    let mut frames = stream.create_consumer(config).await?.messages().await?;
    let mut counted = 0;
    while counted < events {
        let frame = timeout(SILENCE_MAX, frames.next()).await;
        let frame = frame.with_context(|| format!("no frame came for {SILENCE_MAX:?}"))?;
        let frame = frame.context("the consumer ended before the log")??;
        let count = frame.headers.as_ref().and_then(|headers| headers.get(COUNT_HEADER));
        counted += count.context("a frame without a count")?.as_str().parse::<u64>()?;
    }
    Ok(())
}

async fn decode(client: async_nats::Client, events: u64) -> Result<()> {
    let mut follower = EventLog::new(client, NAMESPACE).follow(Checkpoint::default());
    while follower.checkpoint().position < events {
        for event in follower.next().await?.iter().flat_map(|frame| &frame.events) {
            let version = event.version().context("an event without a version")?;
            black_box(Event::decode(&event.r#type, version, event.data.get())?);
        }
    }
    Ok(())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Count => COUNT,
            Self::Decode => DECODE,
        }
    }
}
