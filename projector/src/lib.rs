//! The projector: folds the log into the views in Postgres, exactly once, and signals what changed.
//!
//! Each view has a task of its own ([`view`]), so that a slow or stopped one holds back no other. A task
//! takes its view over (a lock, a checkpoint), lets a reader run ahead of it, and commits batch after batch:
//! the rows and the checkpoint in one transaction, then a signal. Whatever goes wrong, it starts over from
//! the checkpoint that is stored. There is no other way to recover, so this one is always in use.

mod config;
mod migrations;

pub mod signal;

mod view;

mod metrics;
mod monitor;
mod routes;
mod status;

use std::{str::FromStr, sync::Arc, time::Duration};

use anyhow::Context;
use event_log::EventLog;
use service_kit::{Health, Shutdown};
use sqlx::postgres::PgConnectOptions;
use tokio::{net::TcpListener, task::JoinSet};

pub use config::Config;
pub use migrations::migrate;

/// A transaction that is under way at the end may finish within this time; later it is dropped, which
/// Postgres takes for a rollback.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// Folds every view of the domain until `shutdown`, and serves health, metrics and `GET /views` at
/// `listener`. Neither Postgres nor NATS has to be there at the start, nor all the time.
pub async fn serve(listener: TcpListener, config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let options = PgConnectOptions::from_str(&config.postgres.database_url)
        .context("the URL of the database cannot be used")?;
    let client = service_kit::nats::connect(&config.service.nats_url, "projector")
        .await
        .context("the URL of NATS cannot be used")?;
    let log = EventLog::new(client.clone(), &config.service.namespace);
    let health = Health::default();
    let status = Arc::new(status::Status::new(domain::views::ALL, &health));

    let mut tasks = JoinSet::new();
    for (definition, status) in domain::views::ALL.iter().zip(status.views()) {
        let task = view::Task {
            definition,
            options: options.clone(),
            client: client.clone(),
            log: log.clone(),
            status: status.clone(),
        };
        tasks.spawn(task.run(shutdown.clone()));
    }
    tasks.spawn(monitor::run(log, status.clone(), shutdown.clone()));

    tracing::info!(address = %listener.local_addr()?, "folding views");
    let routes = routes::routes(status);
    let served = service_kit::http::serve(listener, routes, health, shutdown.clone()).await;
    shutdown.cancel();
    let _ = tokio::time::timeout(FINISH_TIMEOUT, tasks.join_all()).await;
    served.context("the HTTP server failed")
}
