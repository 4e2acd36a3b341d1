//! Where the processors' time goes while many clients send commands at once.

use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use stack::process::{Process, Signal};

use crate::contestants::{Service, Site};
use crate::load::Load;
use crate::processes::{Others, ProcessorTime};
use crate::report::{Fact, Report, Row};
use crate::requests::{self, Command};

/// A prime, so that nothing periodic is met in step.
const SAMPLES_PER_SECOND: &str = "997";
const ACCOUNTS: usize = 1000;
/// perf writes what it has seen when it is asked to end.
const PERF_STOPS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Number of connections
    #[arg(long, default_value_t = 128)]
    connections: usize,

    /// What is sent
    #[arg(long, value_enum, default_value = "register")]
    command: Command,

    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    /// Seconds before
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,

    /// Have `perf` sample the command-service meanwhile, into this file
    #[arg(long, value_name = "FILE")]
    perf: Option<PathBuf>,

    /// How perf finds callers: its own --call-graph
    #[arg(long, default_value = "dwarf,8192")]
    call_graph: String,
}

pub async fn measure(options: Options) -> Result<Report> {
    let site = Site::start(1).await?;
    let machine = site.machine().await?;
    let service = site.command_service().await?;
    let accounts = requests::some_accounts(service.address, ACCOUNTS).await?;
    let load = |seconds| Load::closed_loop(service.address, options.connections, 0.0, seconds);
    let requests = |connection| requests::each_new(options.command, connection, accounts.clone());
    load(options.warm_up).run(requests).await?;

    let perf = options.perf.as_deref().map(|file| perf(&service, file, &options.call_graph)).transpose()?;
    let processes = [
        ("command-service", service.pid()),
        ("nats-server", site.nats.nodes[0].pid()),
        ("the client", std::process::id()),
    ];
    let used = || processes.iter().map(|(_, pid)| ProcessorTime::of(*pid)).collect::<Result<Vec<_>>>();
    let others = Others::watch()?;
    let before = used()?;
    let measured = load(options.seconds).run(requests).await?;
    let (after, others) = (used()?, others.cores()?);
    if let Some(perf) = perf {
        perf.stop(PERF_STOPS_WITHIN).await;
    }

    let share = |time: ProcessorTime| {
        let microseconds = |part: Duration| part.as_secs_f64() * 1e6 / measured.succeeded as f64;
        format!(
            "{:.0} % of a core; a command: {:.1} µs ({:.1} user, {:.1} system)",
            time.total().as_secs_f64() * 100.0 / options.seconds,
            microseconds(time.total()),
            microseconds(time.user),
            microseconds(time.system),
        )
    };
    let mut facts: Vec<Fact> = processes
        .iter()
        .zip(after.into_iter().zip(before))
        .map(|((name, _), (after, before))| Fact::new(*name, share(after - before)))
        .collect();
    facts.push(Fact::others(others));
    if let Some(file) = &options.perf {
        facts.push(Fact::new("samples of the command-service", file.display().to_string()));
    }
    Ok(Report {
        benchmark: "profile",
        settings: format!("{} s measured after {} s", options.seconds, options.warm_up),
        machine,
        rows: vec![Row::new("headwater", options.command.name(), options.connections, &measured)],
        passes: Vec::new(),
        facts,
        targets: Vec::new(),
    })
}

/// Samples by the processor's clock, which virtual machines have, too.
fn perf(service: &Service, file: &Path, call_graph: &str) -> Result<Process> {
    let mut perf = Program::new("perf");
    perf.args(["record", "--event", "cpu-clock", "--freq", SAMPLES_PER_SECOND]);
    perf.args(["--call-graph", call_graph, "--pid", &service.pid().to_string(), "--output"]).arg(file);
    perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::spawn(perf, Signal::INT)
        .context("cannot start perf; it is a package of the distribution's kernel")
}
