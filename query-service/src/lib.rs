//! The read side of Headwater: answers queries from the views in Postgres. Which queries there are is the
//! database's to say (its columns and indexes); every answer says which position of the log it reflects.
//!
//! A request goes through `routes` → `parameters`, `freshness` → `query` (checked against `catalog`) → `reader`,
//! which answers from the `cache` what the view's `coherence` knows to be true, waits on `positions`, and lets
//! `reads` ask the `database` for the rest, many at a time (`batcher`, `sql`). Beside them run the `watcher`, which
//! keeps the catalog and notices a lost database, and the listener to `signals`, which keeps the coherence.

mod config;

mod batcher;
mod cache;
mod catalog;
mod coherence;
mod conditions;
mod cursor;
mod database;
mod freshness;
mod inspect;
mod line;
mod live;
mod metrics;
mod openapi;
mod parameters;
mod permit;
mod plan;
mod positions;
mod problems;
mod query;
mod reader;
mod reads;
mod routes;
mod served;
mod signals;
mod sql;
mod standby;
mod watcher;

use std::sync::Arc;

use anyhow::Context;
use service_kit::{
    Health, Shutdown,
    auth::Auth,
    http,
    load::{Load, Queue},
    nats, shutdown,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, watch},
};
use uuid::Uuid;

pub use config::{Bounds, Config};
pub use inspect::Inspector;

/// Serves queries at `listener` until it has drained after `leaving`, then finishes those that are under way. Neither Postgres
/// nor NATS has to be there at the start, nor all the time.
pub async fn serve(listener: TcpListener, config: Config, leaving: Shutdown) -> anyhow::Result<()> {
    config.check()?;
    let auth = Auth::start(&config.auth, listener.local_addr()?, leaving.clone()).await?;
    let bounds = &config.bounds;
    let options = database::connect_options(&config.postgres.database_url, bounds)
        .context("the URL of the database cannot be used")?;
    let standby_options = config.standby_url.as_deref().map(|url| database::connect_options(url, bounds));
    let standby_options = standby_options.transpose().context("the URL of the standby cannot be used")?;
    let wellness = standby::Wellness::default();
    let standby =
        standby_options.clone().map(|options| (database::Database::new(options, bounds), wellness.clone()));
    let databases = database::Databases::new(database::Database::new(options.clone(), bounds), standby);
    let client = nats::connect(&config.service.nats, "query-service").await;
    let client = client.context("the URL of NATS cannot be used")?;
    let health = Health::starting([watcher::HEALTH]);
    let shutdown = shutdown::drained(leaving, health.clone(), config.http.drain());
    let positions = Arc::new(positions::Positions::new(bounds.max_waiting));
    let reload = Arc::new(Notify::new());
    let cache = cache::Cache::new(config.cache_bytes());
    let (known, knowing) = watch::channel(watcher::Known::default());

    let watcher = watcher::Watcher {
        options,
        known,
        positions: positions.clone(),
        reload: reload.clone(),
        health: health.clone(),
        client: client.clone(),
    };
    let listener_to_signals = signals::Listener {
        client: client.clone(),
        namespace: config.service.namespace.clone(),
        known: knowing.clone(),
        positions: positions.clone(),
        reload: reload.clone(),
    };
    let reader = reader::Reader {
        reads: reads::Reads::new(databases.clone(), cache.clone()),
        databases: databases.clone(),
        cache: cache.clone(),
        known: knowing,
        positions: positions.clone(),
        reload,
        shutdown: shutdown.clone(),
    };
    let in_flight = Arc::new(Semaphore::new(bounds.max_in_flight as usize));
    let queue = queue_of(in_flight.clone(), bounds.max_in_flight as usize);
    let load = Load::new("query-service", Uuid::now_v7(), config.load, queue);
    let app = routes::App {
        reader,
        metrics: metrics::Metrics::new(cache, positions, in_flight.clone(), bounds.max_in_flight as usize),
        in_flight,
        live: Arc::new(Semaphore::new(bounds.max_live as usize)),
        is_secured: auth.is_on(),
    };
    if let Some(options) = standby_options {
        tokio::spawn(standby::watch(options, wellness, shutdown.clone()));
    }

    // All end with `shutdown`, which also is what ends the server below.
    let watching = tokio::spawn(watcher.run(shutdown.clone()));
    let listening = tokio::spawn(listener_to_signals.run(shutdown.clone()));
    let saying = tokio::spawn(load.clone().run(client, config.service.namespace, shutdown.clone()));
    tracing::info!(address = %listener.local_addr()?, "serving queries");
    let service = http::Service {
        name: "query-service",
        routes: routes::routes(app),
        health,
        load: Some(load),
        auth,
        admin: config.service.admin_address,
    };
    let served = http::serve(listener, service, &config.http, shutdown.clone()).await;
    shutdown.cancel();
    let _ = tokio::join!(watching, listening, saying);
    databases.close().await;
    served.context("the HTTP server failed")
}

/// The queries under way.
fn queue_of(in_flight: Arc<Semaphore>, max: usize) -> Queue {
    Queue { length: Box::new(move || (max - in_flight.available_permits()) as u64), max: max as u64 }
}
