//! Events of a long log that are exported into files, beside consumers that only count or only decode them.

use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use event_log::EventLog;
use stack::services;
use tempfile::TempDir;

use crate::contestants::{NAMESPACE, Site};
use crate::fill;
use crate::processes::Others;
use crate::rebuild::arena::Meter;
use crate::rebuild::consumer::{self, Kind};
use crate::rebuild::{COUNT, DECODE};
use crate::report::{Bound, Fact, Pass, Report, Target, median};
use crate::watched;

const REPLAY: &str = "replay";
const EXPORT: &str = "export";
pub const PARQUET: &str = "parquet";
const FORMATS: [&str; 4] = [PARQUET, "csv", "jsonl", "arrow"];

const EVENTS_PER_SECOND_MIN: f64 = 200_000.0;
const PEAK_MB_MAX: f64 = 300.0;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Events in the log
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,

    /// Events in each frame
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    frame_events: u64,

    /// Runs over the same log; figures are medians, and ratios are made within one run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

pub async fn measure(options: Options) -> Result<Report> {
    let site = Site::start(1).await?;
    let machine = site.machine().await?;
    eprintln!("filling the log with {} events, {} a frame", options.events, options.frame_events);
    let log = EventLog::new(site.client().await?, NAMESPACE);
    fill::history(&log, options.events, options.frame_events).await?;

    let others = Others::watch()?;
    let mut runs: Vec<Vec<Pass>> = Vec::new();
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        runs.push(measure_once(&site, options.events, run).await?);
    }
    let first = runs.first().context("0 runs measure nothing")?;
    let of_all = |pass: &Pass| {
        let same = runs.iter().filter_map(|run| find(run, pass.contestant, pass.what));
        Pass::median(&same.collect::<Vec<_>>())
    };
    Ok(Report {
        benchmark: REPLAY,
        settings: format!(
            "{} events, {} a frame; medians of {} runs",
            options.events, options.frame_events, options.runs
        ),
        machine,
        rows: Vec::new(),
        passes: first.iter().filter_map(of_all).collect(),
        facts: vec![
            Fact::new("export into Parquet, times count", times(&runs, COUNT)),
            Fact::new("export into Parquet, times decode", times(&runs, DECODE)),
            Fact::others(others.cores()?),
        ],
        targets: judge(&runs),
    })
}

async fn measure_once(site: &Site, events: u64, run: u32) -> Result<Vec<Pass>> {
    let mut passes = Vec::new();
    let mut formats = FORMATS;
    // Every other run in the other order, so that what drifts favours nobody.
    if !run.is_multiple_of(2) {
        formats.reverse();
    }
    for kind in [Kind::Count, Kind::Decode] {
        passes.push(consumer::pass(site, Meter::start(site, None, events)?, kind, events).await?);
    }
    for format in formats {
        passes.push(export(site, events, format).await?);
    }
    passes.iter().for_each(|pass| eprintln!("  {pass}"));
    Ok(passes)
}

/// `replay export` into an empty folder, from its start to its end.
pub async fn export(site: &Site, events: u64, format: &'static str) -> Result<Pass> {
    let folder = TempDir::new()?;
    let mut command = Command::new(services::find_or_build(&[REPLAY]).await?.join(REPLAY));
    command.args([EXPORT, "--format", format, "--out"]).arg(folder.path().join("all"));
    command.env("NATS_URL", site.nats.url()).env("HEADWATER_NAMESPACE", NAMESPACE);
    let meter = Meter::start(site, None, events)?;
    let own = watched::run("replay export", command, &site.log_file(EXPORT)).await?;
    meter.pass(EXPORT, format, own)
}

fn find<'a>(run: &'a [Pass], contestant: &str, what: &str) -> Option<&'a Pass> {
    run.iter().find(|pass| (pass.contestant, pass.what) == (contestant, what))
}

/// The events per second into Parquet, times those of a consumer in the same run.
fn times(runs: &[Vec<Pass>], contestant: &str) -> String {
    let ratio = |run: &Vec<Pass>| {
        let consumer = run.iter().find(|pass| pass.contestant == contestant)?;
        Some(find(run, EXPORT, PARQUET)?.per_second / consumer.per_second)
    };
    format!("{:.2}", median(runs.iter().filter_map(ratio).collect()))
}

fn judge(runs: &[Vec<Pass>]) -> Vec<Target> {
    let each = |figure: &dyn Fn(&Vec<Pass>) -> Option<f64>| {
        runs.iter().map(|run| figure(run).unwrap_or(f64::NAN)).collect::<Vec<_>>()
    };
    let parquet = |run: &Vec<Pass>| Some(find(run, EXPORT, PARQUET)?.per_second);
    let peaks = runs.iter().flatten().filter(|pass| pass.contestant == EXPORT);
    // A median would hide a single peak.
    let peak = peaks.map(|pass| pass.peak_mb.unwrap_or(f64::NAN)).reduce(f64::max);
    vec![
        Target::new("events/s into Parquet", Bound::AtLeast(EVENTS_PER_SECOND_MIN), each(&parquet)),
        Target::new(
            "peak resident memory of any export in any run, MB",
            Bound::AtMost(PEAK_MB_MAX),
            peak.into_iter().collect(),
        ),
    ]
}
