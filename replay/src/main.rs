//! The analysts' command line over the log.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use domain::Kind;
use event_log::{EventLog, Target};
use replay::{Events, Findings, Report};
use uuid::Uuid;

/// Reads the log again: checks it, shows it, follows it.
#[derive(Parser)]
#[command(name = "replay", version)]
struct Arguments {
    /// Prefix of the log's stream and subjects.
    #[arg(long, global = true, env = "HEADWATER_NAMESPACE", default_value = "headwater")]
    namespace: String,

    /// URL of the NATS server.
    #[arg(
        long,
        global = true,
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true
    )]
    nats_url: String,

    /// Read this stream instead of the log itself: a mirror of it, so that the writer's server has no work.
    #[arg(long, global = true, env = "HEADWATER_LOG_STREAM")]
    stream: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fold the whole log anew and compare: the views with the fold, the log with its own rules. Exits with 1
    /// if anything differs.
    Verify {
        /// URL of the database of the views.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Check the log by itself: positions without gaps, frames and aggregates in unbroken chains, no claim with two
    /// holders at any position, time that never goes back, events that can be read. Exits with 1 if anything is
    /// wrong. Keeps the state of every aggregate in memory: about 1 KB for an account, 300 B for an order.
    Check,
    /// Show what happened to one aggregate, e.g. `replay history account 018f6d6e-…`.
    History {
        /// `account` or `order`.
        #[arg(value_parser = aggregate)]
        aggregate: Kind,
        id: Uuid,
        #[command(flatten)]
        place: Place,
        /// One CloudEvent a line.
        #[arg(long)]
        json: bool,
    },
    /// Show events as they happen, until Ctrl-C; only what is new, unless `--from` says otherwise.
    Tail {
        #[command(flatten)]
        place: Place,
        /// One CloudEvent a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Place {
    /// Begin at this position, or with the first event at or after this time: 9277, 2026-11-23T22:21:44Z, 2026-11-23.
    #[arg(long, value_name = "POSITION|TIME", value_parser = replay::from::parse)]
    from: Option<Target>,
}

fn aggregate(name: &str) -> Result<Kind, String> {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name);
    kind.ok_or_else(|| format!("expected one of: {}", names.join(", ")))
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let client = service_kit::nats::connect_now(&arguments.nats_url, "replay").await?;
    let mut log = EventLog::new(client, &arguments.namespace);
    if let Some(stream) = arguments.stream {
        log = log.read_from(&stream);
    }
    let result = match arguments.command {
        Command::Verify { database_url } => verify(&log, &database_url).await,
        Command::Check => check(&log).await,
        Command::History { aggregate, id, place, json } => {
            history(&log, aggregate, id, place.from, json).await
        }
        Command::Tail { place, json } => tail(&log, place.from, json).await,
    };
    match result {
        // Whoever reads the output (`| head`) has read enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

async fn verify(log: &EventLog, database_url: &str) -> anyhow::Result<ExitCode> {
    let progress = progress::of(log).await?;
    let report = replay::verify(log, database_url, |position| progress.set_position(position)).await?;
    progress.finish_and_clear();
    print_report(&report);
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check(log: &EventLog) -> anyhow::Result<ExitCode> {
    /// More would not help anybody to see what is wrong.
    const SHOWN_MAX: usize = 100;
    let progress = progress::of(log).await?;
    let findings = replay::check(log, |events| progress.set_position(events)).await?;
    let took = progress.elapsed();
    progress.finish_and_clear();
    let Findings { frames, events, aggregates, ref first, count } = findings;
    let rate = events as f64 / took.as_secs_f64();
    println!("{events} events of {aggregates} aggregates in {frames} frames, {rate:.0} events/s");
    first.iter().take(SHOWN_MAX).for_each(|finding| println!("{finding}"));
    if count > SHOWN_MAX as u64 {
        println!("and {} more", count - SHOWN_MAX as u64);
    }
    println!("{}", if findings.is_clean() { "all is well" } else { "NOT WELL" });
    Ok(if findings.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_report(report: &Report) {
    /// More would not help anybody to see what is wrong.
    const SHOWN_MAX: usize = 10;
    println!("{} events", report.events);
    for view in &report.views {
        let differ = report.differences.iter().filter(|difference| difference.view == view.view).count();
        let verdict = if differ == 0 { "equal".to_owned() } else { format!("{differ} DIFFER") };
        let held = if view.quarantined > 0 {
            format!(", {} in quarantine", view.quarantined)
        } else {
            String::new()
        };
        println!("{:<12} at {:>10}  {:>10} rows  {verdict}{held}", view.view, view.position, view.rows);
    }
    for difference in report.differences.iter().take(SHOWN_MAX) {
        let show =
            |row: &Option<serde_json::Value>| row.as_ref().map_or("no row".to_owned(), |row| row.to_string());
        println!("\n{} {}", difference.view, difference.key);
        println!("  the log says  {}", show(&difference.expected));
        println!("  the view says {}", show(&difference.found));
    }
    for problem in report.log_problems.iter().take(SHOWN_MAX) {
        println!("the log: {problem}");
    }
    println!("{}", if report.is_clean() { "all is well" } else { "NOT WELL" });
}

async fn history(
    log: &EventLog,
    aggregate: Kind,
    id: Uuid,
    from: Option<Target>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let prefix = format!("{}.", aggregate.name());
    let mut events = Events::from(log, from.unwrap_or(Target::Position(0))).await?;
    let mut found = false;
    while let Some(event) = events.available().await? {
        if event.subject == id && event.r#type.starts_with(&prefix) {
            show(&event, json)?;
            found = true;
        }
    }
    if !found {
        let since = if from.is_some() { " since then" } else { "" };
        eprintln!("nothing has happened to the {} {id}{since}", aggregate.name());
    }
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn tail(log: &EventLog, from: Option<Target>, json: bool) -> anyhow::Result<ExitCode> {
    let mut events = match from {
        Some(target) => Events::from(log, target).await?,
        None => Events::after(log, log.head().await?.into()),
    };
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        show(&event, json)?;
    }
}

fn show(event: &event_log::Envelope, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(event)?)?;
    } else {
        let event_log::Envelope { position, time, r#type, subject, data, .. } = event;
        writeln!(out, "{position:>8}  {time:.3}  {:<24} {subject}  {data}", r#type)?;
    }
    Ok(())
}

mod progress {
    use event_log::{EventLog, LogError};
    use indicatif::{ProgressBar, ProgressStyle};

    /// Hidden where standard error is no terminal.
    pub async fn of(log: &EventLog) -> anyhow::Result<ProgressBar> {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events  {per_sec}  {eta} left")?;
        let end = match log.head().await {
            Ok(head) => head.position,
            // A check says so, and where.
            Err(LogError::Frame(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(ProgressBar::new(end).with_style(style))
    }
}
