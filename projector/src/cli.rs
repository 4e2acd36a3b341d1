//! What people do by hand: each command needs the database, those that fold need the log as well, and none
//! needs a projector to run, though all may be used while some do.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use event_log::EventLog;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use projector::{
    EventArgs, Manager, Phase, Progress, REBUILD_BYTES_MAX, Rebuilt, Settings, Verify, Which,
    quarantine::{self, Outcome, Request},
};
use service_kit::{
    config::{PostgresArgs, ServiceArgs},
    nats, telemetry,
};
use tokio::task::JoinSet;

#[derive(Subcommand)]
pub enum Command {
    /// Create or update the tables of the views. Waits for a Postgres that is starting.
    Migrate {
        #[command(flatten)]
        postgres: PostgresArgs,
    },
    /// Fold views anew beside the builds in use, compare them with the log, and switch to each in one transaction.
    /// Queries go on all the time. Ended halfway, it goes on from there when it is run again.
    Rebuild {
        /// The views, such as `customers`; several are rebuilt at the same time.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        views: Vec<String>,
        /// All views.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        fold: FoldArgs,
        /// How much of the new build is compared with an independent fold of the log.
        #[arg(long, default_value = "sample")]
        verify: Verify,
    },
    /// Go back to the build that was used before: it catches up with the log, and is switched to.
    Rollback {
        /// The view, such as `customers`.
        view: String,
        #[command(flatten)]
        fold: FoldArgs,
    },
    /// Drop the tables of all builds of a view that are not in use.
    Drop {
        /// The view, such as `customers`.
        view: String,
        #[command(flatten)]
        postgres: PostgresArgs,
    },
    /// List the builds of all views, or of one.
    Builds {
        /// The view, such as `customers`.
        view: Option<String>,
        #[command(flatten)]
        postgres: PostgresArgs,
    },
    /// See and release what cannot be applied.
    Quarantine {
        #[command(subcommand)]
        task: Quarantine,
    },
}

#[derive(Args)]
pub struct FoldArgs {
    /// Switch even if more keys are in quarantine than in the build in use.
    #[arg(long)]
    accept_quarantine: bool,
    /// Switch even if the build in use was folded from another log, or from more of it than there is now: for a log
    /// that was replaced or restored, and is to stay. Queries see the view go back.
    #[arg(long)]
    replaced_log: bool,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
}

#[derive(Subcommand)]
pub enum Quarantine {
    /// List the keys in quarantine, with event and error.
    List {
        /// Of this view alone.
        view: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        postgres: PostgresArgs,
    },
    /// Fold a key again from the log, with all that was held back. Done by the projector that folds the view.
    Retry {
        view: String,
        key: String,
        #[command(flatten)]
        postgres: PostgresArgs,
    },
    /// The same without the event that cannot be applied: it is left out of this key for good.
    Skip {
        view: String,
        key: String,
        /// Why; it is kept.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        postgres: PostgresArgs,
    },
}

/// A projector that runs takes up a request within about a second.
const PATIENCE: Duration = Duration::from_secs(30);

impl Command {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Migrate { postgres } => {
                let applied = projector::migrate(&postgres.database_url).await?;
                println!("the database has all {applied} migrations");
            }
            Self::Rebuild { views, all, fold, verify } => {
                let every = domain::views::ALL.iter().map(|view| view.name.to_owned());
                let views = if all { every.collect() } else { views };
                return rebuild(views, fold, Which::New, verify).await;
            }
            Self::Rollback { view, fold } => {
                return rebuild(vec![view], fold, Which::Former, Verify::None).await;
            }
            Self::Drop { view, postgres } => {
                let dropped = manager(&postgres)?.drop_builds(&view).await?;
                for build in &dropped {
                    println!("dropped build {} of {view}, table {}", build.number, build.table);
                }
                if dropped.is_empty() {
                    println!("{view} has no build but the one in use");
                }
            }
            Self::Builds { view, postgres } => builds(manager(&postgres)?, view.as_deref()).await?,
            Self::Quarantine { task } => return task.run().await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn manager(postgres: &PostgresArgs) -> anyhow::Result<Manager> {
    Manager::new(&postgres.database_url, domain::views::ALL)
}

async fn rebuild(
    views: Vec<String>,
    fold: FoldArgs,
    which: Which,
    verify: Verify,
) -> anyhow::Result<ExitCode> {
    telemetry::start_logging(fold.service.log_format);
    let client = nats::connect_now(&fold.service.nats, "projector").await?;
    let log = EventLog::new(client, &fold.service.namespace);
    let settings = Settings {
        which,
        unknown_events: fold.events.unknown_events,
        verify,
        accept_quarantine: fold.accept_quarantine,
        replaced_log: fold.replaced_log,
        bytes_max: REBUILD_BYTES_MAX / views.len(),
    };
    let manager = Arc::new(manager(&fold.postgres)?);
    let bars = MultiProgress::new();
    let mut rebuilding = JoinSet::new();
    for view in views {
        let (manager, log, bar) = (manager.clone(), log.clone(), bars.add(bar(&view)?));
        rebuilding.spawn(async move {
            let rebuilt = manager.rebuild(&log, &view, settings, &|progress| show(&bar, progress)).await;
            bar.finish_and_clear();
            (view, rebuilt)
        });
    }
    let mut failed = false;
    loop {
        let (view, rebuilt) = tokio::select! {
            next = rebuilding.join_next() => match next {
                Some(rebuilt) => rebuilt?,
                None => return Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
            },
            _ = tokio::signal::ctrl_c() => anyhow::bail!("stopped; run it again to go on from here"),
        };
        match rebuilt {
            Ok(rebuilt) => bars.suspend(|| print_rebuilt(&view, &rebuilt)),
            Err(error) => {
                failed = true;
                bars.suspend(|| eprintln!("{view}: {error:#}"));
            }
        }
    }
}

fn bar(view: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "{prefix:<14} {msg:<10} {bar:30} {pos}/{len} events  {per_sec}  {eta} left",
    )?;
    Ok(ProgressBar::new(0).with_style(style).with_prefix(view.to_owned()))
}

fn show(bar: &ProgressBar, progress: Progress) {
    let phase = match progress.phase {
        Phase::Folding => "folding",
        Phase::Indexing => "indexing",
        Phase::Verifying => "verifying",
        Phase::Switching => "switching",
    };
    if bar.message() != phase {
        bar.set_message(phase);
        bar.reset_eta();
    }
    bar.set_length(progress.head);
    bar.set_position(progress.position);
}

fn print_rebuilt(view: &str, rebuilt: &Rebuilt) {
    let Rebuilt { to, from, position, events, took, rows_verified, quarantined } = rebuilt;
    let (seconds, rate) = (took.as_secs_f64(), *events as f64 / took.as_secs_f64());
    println!("{view}: build {to} is in use from position {position} on; build {from} was before");
    println!(
        "  {events} events in {seconds:.1} s ({rate:.0} events/s), {rows_verified} rows compared and equal"
    );
    if *quarantined > 0 {
        println!("  {quarantined} keys are in quarantine: projector quarantine list {view}");
    }
    println!("  to go back: projector rollback {view}; to drop the old table: projector drop {view}");
}

async fn builds(manager: Manager, view: Option<&str>) -> anyhow::Result<()> {
    println!(
        "{:<14} {:>5} {:>7}  {:<20} {:>12}  {:<9} folded by",
        "view", "build", "version", "table", "position", "state"
    );
    for (view, builds) in manager.builds(view).await? {
        for build in builds {
            let state = match (build.is_in_use, build.was_used) {
                (true, _) => "in use",
                (false, true) => "former",
                (false, false) => "unfinished",
            };
            println!(
                "{view:<14} {:>5} {:>7}  {:<20} {:>12}  {state:<9} {}",
                build.number,
                build.version,
                build.table,
                build.checkpoint.position,
                build.folded_by.unwrap_or_default()
            );
        }
    }
    Ok(())
}

impl Quarantine {
    async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { view, json, postgres } => list(view.as_deref(), json, &postgres).await,
            Self::Retry { view, key, postgres } => request(&view, &key, Request::Retry, &postgres).await,
            Self::Skip { view, key, reason, postgres } => {
                request(&view, &key, Request::Skip { reason }, &postgres).await
            }
        }
    }
}

async fn list(view: Option<&str>, json: bool, postgres: &PostgresArgs) -> anyhow::Result<ExitCode> {
    let mut connection = manager(postgres)?.connect().await?;
    let entries = quarantine::list(&mut connection, view).await.context("the quarantine cannot be read")?;
    for entry in &entries {
        if json {
            println!("{}", serde_json::to_string(entry)?);
            continue;
        }
        let build =
            if entry.in_use { String::new() } else { format!(" (build {}, not in use)", entry.build) };
        println!("{} {}{build}", entry.view, entry.key);
        println!("  since {}, {} events held back, {} attempts", entry.since, entry.held, entry.attempts);
        println!("  the event at position {}: {}", entry.position, entry.event);
        println!("  error: {}", entry.error);
    }
    if entries.is_empty() && !json {
        println!("nothing is in quarantine");
    }
    Ok(ExitCode::SUCCESS)
}

async fn request(
    view: &str,
    key: &str,
    request: Request,
    postgres: &PostgresArgs,
) -> anyhow::Result<ExitCode> {
    let mut connection = manager(postgres)?.connect().await?;
    let build = quarantine::request(&mut connection, view, key, &request).await?;
    match quarantine::outcome(&mut connection, view, key, build, PATIENCE).await? {
        Outcome::Released => {
            println!("{view} {key}: released, folded up to where the view is");
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Quarantined { position, error, attempts } => {
            println!("{view} {key}: still in quarantine after {attempts} attempts");
            println!("  the event at position {position}: {error}");
            Ok(ExitCode::FAILURE)
        }
        Outcome::Pending => {
            println!("{view} {key}: asked for, and not done within {} s", PATIENCE.as_secs());
            println!(
                "  the projector that folds the view does it; in a build that is not in use, the next rebuild"
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
