//! Reads: by key and by list, hot and cold, while rows change, and what a cache takes of memory.

pub mod static_service;

mod arena;
mod django;
mod figures;
mod memory;
pub mod paths;
mod pgbench;
pub mod shop;
mod updates;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::peers::{self, Peer};
use crate::processes::Others;
use crate::ratios;
use crate::report::{Fact, Report};
use crate::wrk::Strength;
use arena::Arena;
use shop::Shop;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What to measure, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    parts: Vec<Part>,

    /// Also measure these, in `hot`, `uniform` and `lists`; their packages are fetched first. Of the peers, only Django
    /// reads
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,

    /// Number of connections
    #[arg(long, default_value_t = 64)]
    connections: usize,

    /// Threads of wrk, the client of most parts
    #[arg(long, default_value_t = 1)]
    threads: usize,

    /// Accounts; there are 2.8 times as many orders
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..))]
    accounts: u64,

    /// Rows that are read into a cache to see what it takes of memory
    #[arg(long, default_value_t = 1_000_000)]
    cached_rows: usize,

    /// Seconds that each load is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Seconds of each load before it is measured
    #[arg(long, default_value_t = 1)]
    warm_up: u32,

    /// Runs; figures are medians, and ratios are made within one run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

impl Options {
    fn strength(&self) -> Strength {
        let Self { connections, threads, seconds, warm_up, .. } = *self;
        Strength { connections, threads, seconds, warm_up }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Two fields of rows that are asked for again and again, beside a handler that always gives the same answer
    Hot,
    /// The same with a token in every request, beside without any
    Tokens,
    /// Two fields of any row, without a cache, beside pgbench
    Uniform,
    /// Lists, from the cache and without one
    Lists,
    /// Rows that change 500 times a second, with a standby; every answer is compared with the log
    Updates,
    /// What an entry takes of memory, and what a cache takes at the most
    Memory,
}

impl Part {
    const ALL: [Self; 6] = [Self::Hot, Self::Tokens, Self::Uniform, Self::Lists, Self::Updates, Self::Memory];
}

pub async fn measure(options: Options) -> Result<Report> {
    ensure!(options.peers.iter().all(|peer| *peer == Peer::Django), "of the peers, only django reads");
    let (peers, missing) = peers::install(&options.peers).await;
    let others = Others::watch()?;
    let (mut machine, mut runs) = (None, Vec::new());
    if options.parts != [Part::Memory] {
        let shop = Shop::open(options.accounts).await?;
        machine = Some(shop.site.machine().await?);
        let arena = Arena::open(&shop, &options, !peers.is_empty()).await?;
        for number in 0..options.runs {
            eprintln!("run {} of {}", number + 1, options.runs);
            runs.push(arena.run(&options, number).await?);
        }
    }
    let mut facts = figures::facts(&runs);
    let mut targets = figures::targets(&runs);
    if options.parts.contains(&Part::Memory) {
        let shop = Shop::of_accounts_alone(options.cached_rows).await?;
        if machine.is_none() {
            machine = Some(shop.site.machine().await?);
        }
        let found = memory::measure(&shop).await?;
        facts.extend(found.facts());
        targets.extend(found.targets());
    }
    facts.extend(ratios::facts(runs.iter().map(|run| run.rows.as_slice()), arena::ours));
    facts.push(Fact::others(others.cores()?));
    facts.extend(missing);
    Ok(Report {
        benchmark: "reads",
        settings: format!(
            "{} accounts; medians of {} runs, each load measured for {} s after {} s; memory once, {} rows",
            options.accounts, options.runs, options.seconds, options.warm_up, options.cached_rows
        ),
        machine: machine.context("there is nothing to measure")?,
        rows: figures::medians(&runs),
        passes: Vec::new(),
        facts,
        targets,
    })
}
