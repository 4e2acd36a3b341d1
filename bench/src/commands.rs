//! Commands per second and their latency, beside a service that publishes a message an event, and beside JetStream
//! alone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use uuid::Uuid;

use crate::bare;
use crate::contestants::{Service, Site};
use crate::http1::{Connection, Request};
use crate::load::{Load, Measured};
use crate::report::{Bound, Report, Row, Target};
use crate::requests::{self, Command};

const HEADWATER: &str = "headwater";
const NAIVE: &str = "naive";
const BARE: &str = "bare";

/// How many times the commands/s of the naive service ours has to reach.
const RATES: [(Command, usize, f64); 4] = [
    (Command::Register, 128, 15.0),
    (Command::Place, 128, 5.0),
    (Command::Register, 16, 5.0),
    (Command::Place, 16, 3.0),
];
const P99_MS_AT_16: f64 = 12.0;
/// A lone client's latency against that of a bare durable publish.
const TIMES_BARE: f64 = 1.3;

/// Accounts that place orders.
const ACCOUNTS: usize = 1000;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Numbers of connections, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1,16,128,512")]
    connections: Vec<usize>,

    /// Commands to send, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Command::ALL)]
    commands: Vec<Command>,

    /// Seconds that each load is measured
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// Seconds of each load before it is measured
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,

    /// Runs, each with new servers; figures are medians, and ratios are made within one run
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// What one run found.
type Run = Vec<Row>;

pub async fn measure(options: Options) -> Result<Report> {
    let mut machine = None;
    let mut runs: Vec<Run> = Vec::new();
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        let site = Site::start().await?;
        if machine.is_none() {
            machine = Some(site.machine().await?);
        }
        runs.push(measure_once(&options, &site, run).await?);
    }
    let machine = machine.context("0 runs measure nothing")?;
    let median = |row: &Row| {
        let same = |run| find(run, row.contestant, row.what, row.connections).cloned();
        Row::median(&runs.iter().filter_map(same).collect::<Vec<_>>())
    };
    let mut rows: Vec<Row> = runs.first().into_iter().flatten().filter_map(median).collect();
    rows.sort_by_key(|row| (row.what, row.connections));
    Ok(Report {
        benchmark: "commands",
        settings: format!(
            "medians of {} runs, each load measured for {} s after {} s",
            options.runs, options.seconds, options.warm_up
        ),
        machine,
        rows,
        facts: Vec::new(),
        targets: targets(&runs),
    })
}

async fn measure_once(options: &Options, site: &Site, run: usize) -> Result<Run> {
    let services = [(HEADWATER, site.command_service().await?), (NAIVE, site.naive_service().await?)];
    let accounts: Arc<[Uuid]> = (0..ACCOUNTS).map(|_| Uuid::now_v7()).collect();
    // The service to compare with lets unknown accounts place orders.
    register_all(&services[0].1, &accounts).await?;
    let (warm_up, measure) =
        (Duration::from_secs_f64(options.warm_up), Duration::from_secs_f64(options.seconds));
    let mut rows = Run::new();
    let mut add = |contestant, what, connections, measured: &Measured| {
        let row = Row::new(contestant, what, connections, measured);
        eprintln!("  {row}");
        rows.push(row);
    };
    add(BARE, "publish", 1, &bare::publish(site, warm_up, measure).await?);
    for &connections in &options.connections {
        for &command in &options.commands {
            // Every other run in the other order, so that what drifts within a run favours nobody.
            let order = if run.is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for (contestant, service) in order.map(|index| &services[index]) {
                let load = Load { address: service.address, connections, warm_up, measure };
                let requests = |connection| requests::each_new(command, connection, accounts.clone());
                add(contestant, command.name(), connections, &load.run(requests).await?);
            }
        }
    }
    Ok(rows)
}

async fn register_all(service: &Service, accounts: &[Uuid]) -> Result<()> {
    let mut connection = Connection::open(service.address).await?;
    let mut request = Request::default();
    for id in accounts {
        requests::register(&mut request, *id);
        let answer = connection.call(&request).await?;
        ensure!(answer.status == 201, "{}", String::from_utf8_lossy(answer.body));
    }
    Ok(())
}

fn find<'a>(run: &'a Run, contestant: &str, what: &str, connections: usize) -> Option<&'a Row> {
    run.iter().find(|row| row.contestant == contestant && row.what == what && row.connections == connections)
}

/// The promises that can be judged by what was measured.
fn targets(runs: &[Run]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut judge = |what: String, wanted, of: &dyn Fn(&Run) -> Option<f64>| {
        let found: Vec<f64> = runs.iter().filter_map(of).collect();
        if !found.is_empty() {
            targets.push(Target::new(what, wanted, found));
        }
    };
    for (command, connections, times) in RATES {
        let name = command.name();
        let what = format!("{name}, {connections} connections: commands/s, times those of {NAIVE}");
        judge(what, Bound::AtLeast(times), &|run| {
            let rate = |contestant| find(run, contestant, name, connections).map(|row| row.per_second);
            Some(rate(HEADWATER)? / rate(NAIVE)?)
        });
    }
    for name in Command::ALL.map(Command::name) {
        let ours = |run: &Run, connections| find(run, HEADWATER, name, connections).cloned();
        judge(format!("{name}, 16 connections: p99 ms"), Bound::AtMost(P99_MS_AT_16), &|run| {
            Some(ours(run, 16)?.p99_ms)
        });
        let bare = |run: &Run| find(run, BARE, "publish", 1).cloned();
        judge(format!("{name}, a lone client: p50, times {BARE}"), Bound::AtMost(TIMES_BARE), &|run| {
            Some(ours(run, 1)?.p50_ms / bare(run)?.p50_ms)
        });
        judge(format!("{name}, a lone client: mean, times {BARE}"), Bound::AtMost(TIMES_BARE), &|run| {
            Some(ours(run, 1)?.mean_ms / bare(run)?.mean_ms)
        });
    }
    judge("commands without success".to_owned(), Bound::AtMost(0.0), &|run| {
        Some(run.iter().map(|row| row.errors as f64).sum())
    });
    targets
}
