//! Commands per second and their latency, beside a service that publishes a message an event, and beside JetStream
//! alone.

mod targets;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::bare;
use crate::contestants::Site;
use crate::load::{Load, Measured, Pace};
use crate::processes::Others;
use crate::report::{Fact, Report, Row, median};
use crate::requests::{self, Command};

const HEADWATER: &str = "headwater";
const NAIVE: &str = "naive";
const BARE: &str = "bare";

/// A lone client's latency is compared with that of a bare publish, and what the disk takes changes within seconds:
/// so they take turns often.
const SLICES_OF_A_LONE_CLIENT: u32 = 8;

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

    /// NATS servers; with more than one, every stream has a copy on each
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=5))]
    nats_nodes: usize,

    /// Seconds that each load is measured
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// Seconds of each load before it is measured
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,

    /// Runs, each with new servers; figures are medians, and ratios are made within one run
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

/// What one run found.
type Run = Vec<Row>;

pub async fn measure(options: Options) -> Result<Report> {
    let mut machine = None;
    let mut runs: Vec<Run> = Vec::new();
    let mut others = Vec::new();
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        let site = Site::start(options.nats_nodes).await?;
        if machine.is_none() {
            machine = Some(site.machine().await?);
        }
        let (rows, cores) = measure_once(&options, &site, run).await?;
        runs.push(rows);
        others.push(cores);
    }
    let machine = machine.context("0 runs measure nothing")?;
    let median_row = |row: &Row| {
        let same = |run: &Run| row.find_same(run).cloned();
        Row::median(&runs.iter().filter_map(same).collect::<Vec<_>>())
    };
    let mut rows: Vec<Row> = runs.first().into_iter().flatten().filter_map(median_row).collect();
    rows.sort_by_key(|row| (row.what, row.connections));
    Ok(Report {
        benchmark: "commands",
        settings: format!(
            "{} NATS nodes; medians of {} runs, each load measured for {} s after {} s",
            options.nats_nodes, options.runs, options.seconds, options.warm_up
        ),
        machine,
        rows,
        passes: Vec::new(),
        facts: vec![Fact::others(median(others))],
        targets: targets::judge(&runs, options.nats_nodes),
    })
}

/// Returns how many cores others used meanwhile, too.
async fn measure_once(options: &Options, site: &Site, run: u32) -> Result<(Run, f64)> {
    let services = [(HEADWATER, site.command_service().await?), (NAIVE, site.naive_service().await?)];
    // The service to compare with lets unknown accounts place orders.
    let accounts = requests::some_accounts(services[0].1.address, ACCOUNTS).await?;
    let bare = site.make_stream(BARE).await?;
    let others = Others::watch()?;
    let mut rows = Run::new();
    for &connections in &options.connections {
        let slices = if connections == 1 { SLICES_OF_A_LONE_CLIENT } else { 1 };
        let warm_up = Duration::from_secs_f64(options.warm_up) / slices;
        let measure = Duration::from_secs_f64(options.seconds) / slices;
        let mut found: BTreeMap<(&'static str, &'static str), Measured> = BTreeMap::new();
        for slice in 0..slices {
            if connections == 1 {
                add(&mut found, ("publish", BARE), bare::publish(&bare, warm_up, measure).await?)?;
            }
            for &command in &options.commands {
                // Every other time in the other order, so that what drifts favours nobody.
                let order = if (run + slice).is_multiple_of(2) { [0, 1] } else { [1, 0] };
                for (contestant, service) in order.map(|index| &services[index]) {
                    let load = Load {
                        address: service.address,
                        connections,
                        warm_up,
                        measure,
                        pace: Pace::ClosedLoop,
                    };
                    let requests = |connection| requests::each_new(command, connection, accounts.clone());
                    add(&mut found, (command.name(), contestant), load.run(requests).await?)?;
                }
            }
        }
        for ((what, contestant), measured) in found {
            let row = Row::new(contestant, what, connections, &measured);
            eprintln!("  {row}");
            rows.push(row);
        }
    }
    Ok((rows, others.cores()?))
}

/// Adds up the slices of one load.
fn add(
    found: &mut BTreeMap<(&'static str, &'static str), Measured>,
    load: (&'static str, &'static str),
    slice: Measured,
) -> Result<()> {
    match found.entry(load) {
        Entry::Vacant(entry) => _ = entry.insert(slice),
        Entry::Occupied(mut entry) => entry.get_mut().add(slice)?,
    }
    Ok(())
}
