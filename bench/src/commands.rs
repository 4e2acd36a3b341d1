//! Commands per second and their latency, beside a service that publishes a message an event, beside what other people
//! would build, and beside JetStream alone.

mod contestant;
mod targets;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::bare;
use crate::contestants::Site;
use crate::load::Measured;
use crate::peers::{self, Peer};
use crate::processes::Others;
use crate::ratios;
use crate::report::{Fact, Report, Row, median};
use crate::requests::Command;
use contestant::Contestant;

const HEADWATER: &str = "headwater";
const NAIVE: &str = "naive";
const BARE: &str = "bare";

/// A lone client's latency is compared with that of a bare publish, and what the disk takes changes within seconds:
/// so they take turns often.
const SLICES_OF_A_LONE_CLIENT: u32 = 8;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Numbers of connections, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1,16,128,512")]
    connections: Vec<usize>,

    /// Commands to send, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Command::ALL)]
    commands: Vec<Command>,

    /// Also measure these, separated by commas; their packages are fetched and built first
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,

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
    let (peers, missing) = peers::install(&options.peers).await;
    let mut machine = None;
    let mut runs: Vec<Run> = Vec::new();
    let mut others = Vec::new();
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        let site = Site::start(options.nats_nodes).await?;
        if machine.is_none() {
            machine = Some(site.machine().await?);
        }
        let (rows, cores) = measure_once(&options, &site, &peers, run).await?;
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
    let is_peer = |row: &Row| peers.iter().any(|peer| peer.name() == row.contestant);
    let ratios = ratios::facts(runs.iter().map(Vec::as_slice), |row| is_peer(row).then_some(HEADWATER));
    Ok(Report {
        benchmark: "commands",
        settings: format!(
            "{} NATS nodes; medians of {} runs, each load measured for {} s after {} s",
            options.nats_nodes, options.runs, options.seconds, options.warm_up
        ),
        machine,
        rows,
        passes: Vec::new(),
        facts: [Fact::others(median(others))].into_iter().chain(ratios).chain(missing).collect(),
        targets: targets::judge(&runs, options.nats_nodes),
    })
}

/// Returns how many cores others used meanwhile, too.
async fn measure_once(options: &Options, site: &Site, peers: &[Peer], run: u32) -> Result<(Run, f64)> {
    let contestants = Contestant::start_all(site, peers).await?;
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
                let mut order: Vec<&Contestant> = contestants.iter().collect();
                // Every other time in the other order, so that what drifts favours nobody.
                if !(run + slice).is_multiple_of(2) {
                    order.reverse();
                }
                for contestant in order {
                    let measured = contestant.take(command, connections, warm_up, measure).await?;
                    add(&mut found, (command.name(), contestant.name), measured)?;
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
