//! The benchmarks of the write path, of rebuilding views, of reads and of tasks: settings in, a report out.
//!
//! Everything runs in one thread, because the client shares the processors with what it measures.

mod load;

mod cold;
mod commands;
mod freshness;
mod growth;
mod hot;
mod overload;
mod profile;
mod reads;
mod rebuild;
mod replay;
mod tasks;
mod telemetry;

mod apart;
mod bare;
mod contestants;
mod naive;
mod peers;

mod checkpoints;
mod fill;
mod folder;
mod http1;
mod machine;
mod processes;
mod programs;
mod random;
mod ratios;
mod report;
mod requests;
mod watched;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use stack::stop::Stop;

use report::Report;

/// As the services have: whoever decodes events for comparison is to be as fast as they are.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures Headwater's write path on this machine, beside simpler services with the same durability, how fast
/// its views are rebuilt and its events exported, beside what the servers allow, and how fast they are read.
///
/// Starts its own NATS servers and services on free ports of 127.0.0.1 and in a temporary folder (of TMPDIR, which
/// should be on the disk that is to be measured); Ctrl-C stops all of it. Build with --release.
#[derive(Parser)]
#[command(name = "headwater-bench", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,

    /// Also write the report as JSON into this file
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    #[command(flatten)]
    Measure(Benchmark),
    /// The service to compare with; `commands` starts it
    #[command(hide = true)]
    NaiveService(naive::Options),
    /// A service that always gives the same answer, to compare with; `reads` starts it
    #[command(hide = true)]
    StaticService(reads::static_service::Options),
    /// A consumer to compare with; `rebuild` starts it
    #[command(hide = true)]
    Consume(rebuild::consumer::Options),
}

#[derive(Subcommand)]
enum Benchmark {
    /// Commands per second and their latency, beside a service that publishes a message an event
    Commands(commands::Options),
    /// Many clients and one account: every command is decided on the latest state
    Hot(hot::Options),
    /// A long history: start, memory, disk, and commands on accounts that nobody has commanded for long
    Cold(cold::Options),
    /// More requests than there is room for: what is done all the same, and how soon
    Overload(overload::Options),
    /// Where the processors' time goes under load, by process and, with perf, by function
    Profile(profile::Options),
    /// Views that are folded from a long log, beside consumers that count and decode and beside plain inserts
    Rebuild(rebuild::Options),
    /// Reads by key and by list, hot and cold, while rows change, and what a cache takes of memory
    Reads(reads::Options),
    /// How soon a command's effect can be read, idle and beside many other commands
    Freshness(freshness::Options),
    /// What each of these costs as the log grows
    Growth(growth::Options),
    /// Events that are exported into files, beside consumers that count and decode
    Replay(replay::Options),
    /// Tasks: how fast they are done, that they wait while there is load, and that registering waits for none
    Tasks(tasks::Options),
    /// What it costs to send traces, metrics and logs to a collector
    Telemetry(telemetry::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let benchmark = match cli.task {
        Task::Measure(benchmark) => benchmark,
        // These get as many threads as the service that they are compared with.
        Task::NaiveService(options) => {
            return tokio::runtime::Runtime::new()?.block_on(naive::serve(options));
        }
        Task::StaticService(options) => {
            return tokio::runtime::Runtime::new()?.block_on(reads::static_service::serve(options));
        }
        Task::Consume(options) => {
            return tokio::runtime::Runtime::new()?.block_on(rebuild::consumer::consume(options));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let stop = Stop::on_signals()?;
        tokio::select! {
            biased;
            // What runs is stopped as it is dropped.
            () = stop.requested() => anyhow::bail!("stopped"),
            report = measure(benchmark) => report,
        }
    })?;
    println!("{report}");
    if let Some(file) = cli.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

async fn measure(benchmark: Benchmark) -> Result<Report> {
    match benchmark {
        Benchmark::Commands(options) => commands::measure(options).await,
        Benchmark::Hot(options) => hot::measure(options).await,
        Benchmark::Cold(options) => cold::measure(options).await,
        Benchmark::Overload(options) => overload::measure(options).await,
        Benchmark::Profile(options) => profile::measure(options).await,
        Benchmark::Rebuild(options) => rebuild::measure(options).await,
        Benchmark::Reads(options) => reads::measure(options).await,
        Benchmark::Freshness(options) => freshness::measure(options).await,
        Benchmark::Growth(options) => growth::measure(options).await,
        Benchmark::Replay(options) => replay::measure(options).await,
        Benchmark::Tasks(options) => tasks::measure(options).await,
        Benchmark::Telemetry(options) => telemetry::measure(options).await,
    }
}
