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

pub mod quarantine;
pub mod registry;
mod share;

mod manage;
mod metrics;
mod monitor;
mod routes;
mod status;

use std::{str::FromStr, sync::Arc, time::Duration};

use anyhow::Context;
use domain::view::Definition;
use event_log::EventLog;
use service_kit::{Health, Shutdown, auth::Auth, http, shutdown};
use sqlx::postgres::PgConnectOptions;
use tokio::{net::TcpListener, task::JoinSet};
use uuid::Uuid;

pub use config::{Config, EventArgs};
pub use manage::Manager;
pub use migrations::migrate;
pub use view::{
    BYTES_MAX as REBUILD_BYTES_MAX, Phase, Progress, RebuildError, Rebuilt, Settings, UnknownEvents, Verify,
    ViewError, Which,
};

/// A transaction that is under way at the end may finish within this time; later it is dropped, which
/// Postgres takes for a rollback.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// Folds the views `all`, or those of them that the settings name, until it has drained after `leaving`, and serves health, metrics,
/// `GET /views` and the quarantine at `listener`. Neither Postgres nor NATS has to be there at the start, nor all
/// the time.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    all: &'static [Definition],
    leaving: Shutdown,
) -> anyhow::Result<()> {
    let auth = Auth::start(&config.auth, listener.local_addr()?, leaving.clone()).await?;
    let options = PgConnectOptions::from_str(&config.postgres.database_url)
        .context("the URL of the database cannot be used")?;
    let client = service_kit::nats::connect(&config.service.nats, "projector")
        .await
        .context("the URL of NATS cannot be used")?;
    let log = EventLog::new(client.clone(), &config.service.namespace);
    let views = config.chosen(all)?;
    let me: Arc<str> = instance().into();
    let health = Health::default();
    let shutdown = shutdown::drained(leaving, health.clone(), config.http.drain());
    let status = Arc::new(status::Status::new(&views, &health, &me, config.stalled_after()));
    let share = Arc::new(share::Share::of(views.len()));

    let mut tasks = JoinSet::new();
    for (definition, status) in views.into_iter().zip(status.views()) {
        let task = view::Task {
            definition,
            options: options.clone(),
            client: client.clone(),
            log: log.clone(),
            status: status.clone(),
            share: share.clone(),
            unknown_events: config.events.unknown_events,
            me: me.clone(),
            careful_until: Default::default(),
        };
        tasks.spawn(task.run(shutdown.clone()));
    }
    tasks.spawn(monitor::run(log, status.clone(), shutdown.clone()));

    tracing::info!(address = %listener.local_addr()?, instance = %me, "folding views");
    let service = http::Service {
        name: "projector",
        routes: routes::routes(status, options),
        health,
        load: None,
        auth,
        admin: config.service.admin_address,
    };
    let served = http::serve(listener, service, &config.http, shutdown.clone()).await;
    shutdown.cancel();
    let _ = tokio::time::timeout(FINISH_TIMEOUT, tasks.join_all()).await;
    served.context("the HTTP server failed")
}

/// Names this projector to people, and tells it from others on its machine.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "projector" } else { host.trim() };
    format!("{host}/{}/{}", std::process::id(), &Uuid::now_v7().simple().to_string()[24..])
}
