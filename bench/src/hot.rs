//! One account that everybody commands at once: each command is decided on what the one before it left.

use anyhow::{Context as _, Result};
use clap::Args;
use event_log::EventLog;
use uuid::Uuid;

use crate::contestants::{NAMESPACE, Site};
use crate::load::Load;
use crate::processes::Others;
use crate::report::{Bound, Fact, Report, Row, Target, median};
use crate::requests;

const PER_SECOND: f64 = 5000.0;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Number of connections
    #[arg(long, default_value_t = 64)]
    connections: usize,

    /// Seconds that are measured
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// Seconds before
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,

    /// Runs, each with new servers; figures are medians
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

pub async fn measure(options: Options) -> Result<Report> {
    let mut machine = None;
    let mut rows = Vec::new();
    let (mut lost, mut broken, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let site = Site::start(1).await?;
        if machine.is_none() {
            machine = Some(site.machine().await?);
        }
        let service = site.command_service().await?;
        let account = requests::some_accounts(service.address, 1).await?[0];
        let Options { connections, warm_up, seconds, .. } = options;
        let load = Load::closed_loop(service.address, connections, warm_up, seconds);
        let watch = Others::watch()?;
        let measured = load.run(|connection| requests::renames(account, connection)).await?;
        others.push(watch.cores()?);
        let row = Row::new("headwater", "rename one account", options.connections, &measured);
        eprintln!("  {row}");
        rows.push(row);

        let chain = Chain::read(&EventLog::new(site.client().await?, NAMESPACE), account).await?;
        // The registration is the first link.
        lost.push((measured.succeeded + 1).abs_diff(chain.events) as f64);
        broken.push(chain.broken as f64);
    }
    let row = Row::median(&rows).context("0 runs measure nothing")?;
    let rates = rows.iter().map(|row| row.per_second).collect();
    let none = Bound::AtMost(0.0);
    Ok(Report {
        benchmark: "hot",
        settings: format!("medians of {} runs, each of {} s", options.runs, options.seconds),
        machine: machine.context("0 runs measure nothing")?,
        facts: vec![Fact::others(median(others))],
        targets: vec![
            Target::new("commands/s on one account", Bound::AtLeast(PER_SECOND), rates),
            Target::new("commands without success", none, vec![row.errors as f64]),
            Target::new("difference of events in the log and commands acknowledged", none, vec![worst(lost)]),
            Target::new("events whose `previous` is not the one before", none, vec![worst(broken)]),
        ],
        rows: vec![row],
        passes: Vec::new(),
    })
}

/// A median would hide a single wrong run.
fn worst(runs: Vec<f64>) -> f64 {
    runs.into_iter().fold(0.0, f64::max)
}

/// The events of one aggregate, as they stand in the log.
#[derive(Default)]
struct Chain {
    events: u64,
    /// Events that do not name the one before them.
    broken: u64,
}

impl Chain {
    async fn read(log: &EventLog, id: Uuid) -> Result<Self> {
        let mut follower = log.follow(Default::default());
        let mut chain = Self::default();
        let mut last = 0;
        loop {
            let frames = follower.available().await?;
            if frames.is_empty() {
                return Ok(chain);
            }
            for event in frames.into_iter().flat_map(|frame| frame.events).filter(|event| event.subject == id)
            {
                chain.events += 1;
                chain.broken += u64::from(event.previous != last);
                last = event.position;
            }
        }
    }
}
