//! How soon a command's effect can be read: from its acknowledgement until the view shows it, with nothing else to do
//! and beside half of the commands that the machine can take.

mod probe;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use sqlx::{Connection as _, PgConnection};
use stack::servers::Postgres;
use stack::services;

use crate::checkpoints;
use crate::contestants::{Service, Site};
use crate::load::{Load, Pace};
use crate::processes::Others;
use crate::report::{Fact, Report, Row, median};
use crate::requests::{self, Command};
pub use probe::{ASKED_FOR, Probe};

const IDLE: &str = "idle";
const HALF: &str = "half of the peak";

/// Of the load that finds the peak, and of the one at half of it.
const CONNECTIONS: usize = 128;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds that each load is measured
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,

    /// Seconds of each load before it is measured
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,

    /// Runs, each with new servers; figures are medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// What one run found.
struct Run {
    rows: Vec<Row>,
    /// Commands a second: the most, and those that were taken beside the probe.
    peak: f64,
    taken: f64,
}

pub async fn measure(options: Options) -> Result<Report> {
    let others = Others::watch()?;
    let (mut machine, mut runs) = (None, Vec::new());
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        let site = Site::start(1).await?;
        if machine.is_none() {
            machine = Some(site.machine().await?);
        }
        let postgres = site.postgres().await?;
        runs.push(measure_once(&options, &site, &postgres).await?);
    }
    let rows = runs.first().into_iter().flat_map(|run| &run.rows).filter_map(|row| {
        let same = runs.iter().filter_map(|run| row.find_same(&run.rows).cloned());
        Row::median(&same.collect::<Vec<_>>())
    });
    let rows = rows.collect();
    let of = |figure: fn(&Run) -> f64| format!("{:.0}", median(runs.iter().map(figure).collect()));
    Ok(Report {
        benchmark: "freshness",
        settings: format!(
            "medians of {} runs, each load measured for {} s after {} s",
            options.runs, options.seconds, options.warm_up
        ),
        machine: machine.context("0 runs measure nothing")?,
        rows,
        passes: Vec::new(),
        facts: vec![
            Fact::new(
                format!("registrations/s, the most over {CONNECTIONS} connections"),
                of(|run| run.peak),
            ),
            Fact::new(format!("registrations/s beside the probe, {HALF}"), of(|run| run.taken)),
            Fact::others(others.cores()?),
        ],
        targets: Vec::new(),
    })
}

async fn measure_once(options: &Options, site: &Site, postgres: &Postgres) -> Result<Run> {
    let binaries = services::find_or_build(&[services::PROJECTOR]).await?;
    services::migrate(&binaries, &postgres.url(), &site.log_file(services::PROJECTOR)).await?;
    // It makes the log.
    let commands = site.command_service().await?;
    let projector = site.projector(postgres.url(), &[]).await?;
    let queries = site.query_service(postgres.url(), &[]).await?;
    let (warm_up, measure) =
        (Duration::from_secs_f64(options.warm_up), Duration::from_secs_f64(options.seconds));
    let probe = Probe { commands: commands.address, queries: queries.address, warm_up, measure };

    let pace = Pace::ClosedLoop;
    let load = Load { address: commands.address, connections: CONNECTIONS, warm_up, measure, pace };
    let each_new = |connection| requests::each_new(Command::Register, connection, [].into());
    let peak = load.run(each_new).await?.per_second();
    caught_up(&projector, &probe, postgres).await?;

    let mut rows = probe.run(IDLE).await?;
    let half = Load { pace: Pace::PerSecond(peak / 2.0), ..load };
    let (found, taken) = tokio::join!(probe.run(HALF), half.run(each_new));
    rows.extend(found?);
    Ok(Run { rows, peak, taken: taken?.per_second() })
}

/// Waits until the views hold all that is in the log.
pub async fn caught_up(projector: &Service, probe: &Probe, postgres: &Postgres) -> Result<()> {
    let position = probe.last_position().await?;
    let mut database = PgConnection::connect(&postgres.url()).await?;
    let all: Vec<&str> = domain::views::ALL.iter().map(|view| view.name).collect();
    projector.until(checkpoints::reach(&mut database, &all, position)).await
}
