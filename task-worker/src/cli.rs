//! What people do by hand: dead letters, and where policies are. Each command needs NATS, none a task-worker that
//! runs.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use clap::Subcommand;
use domain::policies;
use event_log::EventLog;
use service_kit::{config::ServiceArgs, nats, telemetry};
use task_worker::{
    Letters,
    queue::{Queue, TaskId},
    restart_policies,
};
use tokio::time::timeout;

/// For NATS to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub enum Command {
    /// See and decide on the tasks that could not be done.
    DeadLetters {
        #[command(subcommand)]
        task: DeadLetters,
    },
    /// See where the policies are in the log, or start them anew.
    Policies {
        #[command(subcommand)]
        task: Policies,
    },
}

#[derive(Subcommand)]
pub enum DeadLetters {
    /// List them, with error and attempts.
    List {
        /// Of this policy alone, such as `welcome-email`.
        #[arg(long)]
        policy: Option<String>,
        /// No more than so many.
        #[arg(long, default_value_t = 100, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
        limit: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Show one, with its event.
    Show {
        /// As the list shows it.
        id: TaskId,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Put them back among the tasks that are to be done.
    Retry {
        /// As the list shows them.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<TaskId>,
        /// All dead letters.
        #[arg(long)]
        all: bool,
        /// With --all: of this policy alone.
        #[arg(long, requires = "all")]
        policy: Option<String>,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// End them for good. They are kept with the reason for 90 days.
    Discard {
        /// As the list shows them.
        #[arg(required = true)]
        ids: Vec<TaskId>,
        /// Why; it is kept.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

#[derive(Subcommand)]
pub enum Policies {
    /// Show up to which position of the log each has seen.
    List {
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Let all go on after a position, whatever they have seen: for a log that was replaced or restored. Tasks that
    /// are in the queue stay there. What events owed before that position, and is not in the queue, is owed no more.
    Restart {
        /// The position; without it, the end of the log.
        #[arg(long)]
        after: Option<u64>,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

impl Command {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::DeadLetters { task } => task.run().await,
            Self::Policies { task } => task.run().await,
        }
    }
}

async fn connect(service: &ServiceArgs) -> anyhow::Result<(Queue, EventLog)> {
    telemetry::start_logging(service.log_format);
    let client = nats::connect(&service.nats, "task-worker").await?;
    // It goes on trying for ever; a person does not.
    let connected = timeout(PATIENCE, client.flush()).await;
    ensure!(matches!(connected, Ok(Ok(()))), "NATS does not answer; --nats-url (NATS_URL) says where it is");
    let queue = Queue::new(client.clone(), &service.namespace);
    Ok((queue, EventLog::new(client, &service.namespace)))
}

async fn letters(service: &ServiceArgs) -> anyhow::Result<Letters> {
    let (queue, log) = connect(service).await?;
    Ok(Letters::new(queue, log, policies::ALL))
}

impl DeadLetters {
    async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { policy, limit, json, service } => list(&service, policy, limit, json).await,
            Self::Show { id, service } => {
                let letter = letters(&service).await?.read(&id).await?;
                let letter = letter.with_context(|| format!("{id} is not dead"))?;
                println!("{}", serde_json::to_string_pretty(&letter)?);
                Ok(ExitCode::SUCCESS)
            }
            Self::Retry { ids, all, policy, service } => {
                let letters = letters(&service).await?;
                let ids = if all { letters.ids(policy.as_deref()).await? } else { ids };
                if ids.is_empty() {
                    ensure_known(policy.as_deref())?;
                }
                let mut were_there = Vec::new();
                for id in ids {
                    were_there.push((letters.send_again(&id).await?, id));
                }
                Ok(told("is to be done again", &were_there))
            }
            Self::Discard { ids, reason, service } => {
                ensure!(!reason.trim().is_empty(), "--reason: to discard a task takes a reason");
                let letters = letters(&service).await?;
                let mut were_there = Vec::new();
                for id in ids {
                    were_there.push((letters.discard(&id, reason.trim()).await?, id));
                }
                Ok(told("is discarded", &were_there))
            }
        }
    }
}

/// A line for each; a failure, if one was not there.
fn told(what: &str, were_there: &[(bool, TaskId)]) -> ExitCode {
    for (was_there, id) in were_there {
        println!("{id} {}", if *was_there { what } else { "is not dead" });
    }
    if were_there.iter().all(|(was_there, _)| *was_there) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A policy that is no more may have dead letters. One that has none, and never was, is a slip.
fn ensure_known(policy: Option<&str>) -> anyhow::Result<()> {
    let names: Vec<&str> = policies::ALL.iter().map(|policy| policy.name).collect();
    let is_known = policy.is_none_or(|policy| names.contains(&policy));
    ensure!(is_known, "there is no policy `{}`; there are {}", policy.unwrap_or(""), names.join(", "));
    Ok(())
}

async fn list(
    service: &ServiceArgs,
    policy: Option<String>,
    limit: usize,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let list = letters(service).await?.list(policy.as_deref(), limit).await?;
    if list.total == 0 {
        ensure_known(policy.as_deref())?;
    }
    for letter in &list.dead_letters {
        if json {
            println!("{}", serde_json::to_string(letter)?);
        } else {
            let error = letter.task.error.as_deref().unwrap_or("");
            println!(
                "{}\n  died at {} after {} attempts: {error}",
                letter.task.id, letter.died_at, letter.task.attempts
            );
        }
    }
    let shown = list.dead_letters.len();
    if !json {
        println!("{shown} of {} dead letters", list.total);
    }
    Ok(ExitCode::SUCCESS)
}

impl Policies {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let progress = match self {
            Self::List { service } => connect(&service).await?.0.progress().await?.progress,
            Self::Restart { after, service } => {
                let (queue, log) = connect(&service).await?;
                restart_policies(&queue, &log, policies::ALL, after).await?
            }
        };
        for (policy, position) in &progress.policies {
            let off = progress.off.get(policy).map_or(String::new(), |since| format!(", off since {since}"));
            println!("{policy} has seen position {position}{off}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
