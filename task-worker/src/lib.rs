//! The task-worker: log → tasks → effects, when the services have time.
//!
//! [`planner`] follows the log and puts what events owe into the [`queue`]; [`worker`] takes tasks from there, as many
//! as the [`pace`] allows, which [`load`] keeps by what the services say of themselves; [`attempt`] does one task, by
//! its [`effect`], and says what came of it. Any number of task-workers may run.

mod config;

pub mod mail;
pub mod queue;

mod planner;

mod load;
mod pace;
mod retry;
mod trickle;

mod attempt;
mod effect;
mod worker;

mod clock;
mod letters;
mod metrics;
mod monitor;
mod routes;
mod status;

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use domain::policy::Definition;
use event_log::EventLog;
use service_kit::{Health, Shutdown, auth::Auth, http, lease::Instance, nats, shutdown};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

pub use config::Config;
pub use letters::Letters;
pub use planner::restart as restart_policies;

use attempt::Attempts;
use effect::{Effects, Rows};
use mail::Mailer;
use metrics::Metrics;
use monitor::Monitor;
use pace::Pace;
use planner::Planner;
use queue::Queue;
use retry::Breaker;
use status::Status;
use trickle::Trickle;
use worker::Worker;

/// What is under way at the end may take so long: longer than the worker gives its tasks.
const FINISH_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(6);

/// Plans and does tasks until it has drained after `leaving`, and serves health, metrics, `GET /tasks` and the dead letters at `listener`.
/// NATS need not be there at the start, nor all the time.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    policies: &'static [Definition],
    leaving: Shutdown,
) -> anyhow::Result<()> {
    let auth = Auth::start(&config.auth, listener.local_addr()?, leaving.clone()).await?;
    let thresholds = config.pace.thresholds()?;
    let starts = config.starts(policies)?;
    let mailer = Mailer::new(&config.mail, policies.iter().map(|policy| policy.name))?;
    tracing::info!(mail = %mailer, "where emails go");
    let rows =
        Rows::new(config.query_url, config.query_token_file.filter(|file| !file.as_os_str().is_empty()))?;
    let namespace = config.service.namespace.clone();
    let client =
        nats::connect(&config.service.nats, "task-worker").await.context("the URL of NATS cannot be used")?;
    let log = EventLog::new(client.clone(), &namespace).with_replicas(config.task_replicas);
    let queue = Queue::new(client.clone(), &namespace);
    let me = Instance::new();
    let health = Health::starting([planner::HEALTH, worker::HEALTH]);
    let shutdown = shutdown::drained(leaving, health.clone(), config.http.drain());
    let mut by_priority: Vec<&'static Definition> = policies.iter().collect();
    by_priority.sort_by_key(|policy| policy.priority);
    let metrics = Metrics::new();
    let status = Status::new(me.to_string(), &by_priority, metrics.clone());
    let (keeping, pace) = watch::channel(Pace::listening());

    let planner = Planner {
        log: log.clone(),
        queue: queue.clone(),
        policies,
        starts,
        me,
        pace: pace.clone(),
        status: status.clone(),
        health: health.clone(),
    };
    let attempts = Attempts {
        queue: queue.clone(),
        effects: Arc::new(Effects { mailer, rows, log: log.clone(), policies }),
        breaker: Breaker::default(),
        metrics,
        attempts_max: config.attempts_max,
    };
    let worker = Worker {
        attempts: Arc::new(attempts),
        policies: by_priority.clone(),
        ordered: None,
        pace,
        trickle: Trickle::new(config.pace.trickle_per_second, Instant::now()),
        concurrency: config.pace.concurrency,
        replicas: config.task_replicas,
        status: status.clone(),
        health: health.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(load::follow(client, namespace, config.pace.regions, thresholds, keeping, shutdown.clone()));
    tasks.spawn(planner.run(shutdown.clone()));
    tasks.spawn(worker.run(shutdown.clone()));
    let monitor = Monitor { log: log.clone(), queue: queue.clone(), policies: by_priority.into(), status };
    tasks.spawn(monitor.clone().run(shutdown.clone()));

    tracing::info!(address = %listener.local_addr()?, instance = %me, "doing tasks");
    let routes = routes::routes(monitor, Letters::new(queue, log, policies));
    let admin = config.service.admin_address;
    let service = http::Service { name: "task-worker", routes, health, load: None, auth, admin };
    let served = http::serve(listener, service, &config.http, shutdown.clone()).await;
    shutdown.cancel();
    let _ = timeout(FINISH_TIME_MAX, async { while tasks.join_next().await.is_some() {} }).await;
    served.context("the HTTP server failed")
}
