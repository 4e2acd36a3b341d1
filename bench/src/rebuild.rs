//! Views that are folded from a long log: how fast, and in how much memory, beside what NATS and Postgres allow.

pub mod arena;
pub mod consumer;

mod databases;
mod insert;
mod projector;
mod targets;

use anyhow::{Context as _, Result};
use clap::Args;
use event_log::EventLog;
use tokio::time::Instant;

use crate::contestants::{NAMESPACE, Site};
use crate::fill;
use crate::processes::Others;
use crate::report::{Fact, Pass, Report, median};
use arena::Arena;

/// Fewer events leave a view without a row.
const EVENTS_MIN: u64 = 1000;

pub const COUNT: &str = "count";
pub const DECODE: &str = "decode";
const INSERT: &str = "insert";
/// `projector rebuild`, without comparing.
const REBUILD: &str = "rebuild";
/// The same with a sample of the rows compared with an independent fold of the log.
const VERIFIED: &str = "rebuild, verified";
/// The projector as a service, over tables that are empty and have all their indexes.
const SERVICE: &str = "service";

const VERIFY_NONE: &str = "none";
const VERIFY_SAMPLE: &str = "sample";

/// What `count` and `decode` read.
const LOG: &str = "the log";
const ALL_VIEWS: &str = "all views";

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Events in the log
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(EVENTS_MIN..))]
    events: u64,

    /// Runs over the same log; figures are medians, and ratios are made within one run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// What one run found.
type Run = Vec<Pass>;

pub async fn measure(options: Options) -> Result<Report> {
    let site = Site::start(1).await?;
    let machine = site.machine().await?;
    eprintln!("filling the log with {} events", options.events);
    let filling = Instant::now();
    let log = EventLog::new(site.client().await?, NAMESPACE);
    fill::history(&log, options.events, fill::EVENTS_PER_FRAME).await?;
    let filled = filling.elapsed();

    let mut arena = Arena::open(site, options.events).await?;
    let others = Others::watch()?;
    let mut runs: Vec<Run> = Vec::new();
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        runs.push(measure_once(&mut arena, run).await?);
    }
    let others = others.cores()?;

    let median_pass = |pass: &Pass| {
        let same: Vec<&Pass> = runs.iter().filter_map(|run| find(run, pass.contestant, pass.what)).collect();
        Pass::median(&same)
    };
    let first = runs.first().context("0 runs measure nothing")?;
    Ok(Report {
        benchmark: "rebuild",
        settings: format!("{} events; medians of {} runs", options.events, options.runs),
        machine,
        rows: Vec::new(),
        passes: first.iter().filter_map(median_pass).collect(),
        facts: vec![
            Fact::new("filling the log", format!("{:.2} s", filled.as_secs_f64())),
            Fact::new("all views: projector ready after", format!("{:.2} s", median(arena.ready_after_s))),
            Fact::others(others),
        ],
        targets: targets::judge(&runs),
    })
}

async fn measure_once(arena: &mut Arena, run: u32) -> Result<Run> {
    let views = domain::views::ALL.iter().map(|view| Turn::View(view.name));
    let mut turns: Vec<Turn> =
        [Turn::Count, Turn::Decode].into_iter().chain(views).chain([Turn::AllViews]).collect();
    // Every other run in the other order, so that what drifts favours nobody.
    if !run.is_multiple_of(2) {
        turns.reverse();
    }
    let mut passes = Run::new();
    for turn in turns {
        for pass in turn.take(arena).await? {
            eprintln!("  {pass}");
            passes.push(pass);
        }
    }
    passes.extend(one_after_the_other(&passes, arena.events));
    Ok(passes)
}

/// A contestant's turn, or that of two which belong together.
#[derive(Clone, Copy)]
enum Turn {
    Count,
    Decode,
    /// The projector with one view, and then the rows that it made, by themselves.
    View(&'static str),
    AllViews,
}

impl Turn {
    async fn take(self, arena: &mut Arena) -> Result<Vec<Pass>> {
        Ok(match self {
            Self::Count => {
                vec![consumer::pass(&arena.site, arena.meter()?, consumer::Kind::Count, arena.events).await?]
            }
            Self::Decode => {
                vec![consumer::pass(&arena.site, arena.meter()?, consumer::Kind::Decode, arena.events).await?]
            }
            Self::View(view) => {
                let service = projector::first_fold(arena, view, &[view]).await?;
                let rebuild = projector::rebuild(arena, view, &[view], VERIFY_NONE).await?;
                vec![service, rebuild, insert::pass(arena, view).await?]
            }
            Self::AllViews => vec![
                projector::first_fold(arena, ALL_VIEWS, &[]).await?,
                projector::rebuild(arena, ALL_VIEWS, &[], VERIFY_NONE).await?,
                projector::rebuild(arena, ALL_VIEWS, &[], VERIFY_SAMPLE).await?,
            ],
        })
    }
}

fn find<'a>(run: &'a [Pass], contestant: &str, what: &str) -> Option<&'a Pass> {
    run.iter().find(|pass| (pass.contestant, pass.what) == (contestant, what))
}

/// The inserts of all views as if they were one pass over the log.
fn one_after_the_other(passes: &[Pass], events: u64) -> Option<Pass> {
    let inserts = passes.iter().filter(|pass| pass.contestant == INSERT);
    let all = inserts.cloned().reduce(|all, next| Pass {
        seconds: all.seconds + next.seconds,
        own_us: all.own_us + next.own_us,
        nats_us: all.nats_us + next.nats_us,
        postgres_us: all.postgres_us + next.postgres_us,
        ..all
    })?;
    Some(Pass { what: ALL_VIEWS, per_second: events as f64 / all.seconds, ..all })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pass over 1,000 events.
    pub fn pass(contestant: &'static str, what: &'static str, seconds: f64) -> Pass {
        Pass {
            contestant,
            what,
            per_second: 1000.0 / seconds,
            seconds,
            own_us: 1.0,
            nats_us: 0.0,
            postgres_us: 2.0,
            peak_mb: None,
        }
    }

    #[test]
    fn inserts_one_after_the_other_take_as_long_as_all_of_them() {
        let passes =
            [pass(REBUILD, "orders", 9.0), pass(INSERT, "orders", 3.0), pass(INSERT, "accounts", 1.0)];
        let all = one_after_the_other(&passes, 1000).unwrap();
        assert_eq!((all.what, all.seconds, all.per_second), (ALL_VIEWS, 4.0, 250.0));
        assert_eq!((all.own_us, all.postgres_us), (2.0, 4.0));
    }
}
