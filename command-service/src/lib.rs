//! The command-service: HTTP → decide → append.
//!
//! [`http`] parses and answers; [`writer`] is the one task that owns the state, decides every command in
//! order, and appends the events of all that arrived meanwhile as one frame.

mod http;
mod metrics;
mod writer;

use std::{net::SocketAddr, time::Duration};

use event_log::EventLog;
use service_kit::{Health, Shutdown, config, nats};
use tokio::net::TcpListener;

/// What is queued at the end takes one append; without a log to append to, waiting helps nobody.
const WRITER_FINISH_TIME_MAX: Duration = Duration::from_secs(1);

/// The command-service takes commands over HTTP and appends their events to the log.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "command-service", version)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8081", value_parser = config::listen_address)]
    pub listen: SocketAddr,

    /// Commands that may wait for the writer; what comes on top is answered 503 at once.
    #[arg(long, env = "HEADWATER_QUEUE_COMMANDS_MAX", default_value_t = 8192,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub queue_commands_max: usize,

    #[command(flatten)]
    pub service: config::ServiceArgs,
}

/// Serves until `shutdown`; then finishes the requests that are under way and leaves.
pub async fn serve(listener: TcpListener, config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let health = Health::starting([writer::HEALTH_CHECK]);
    let client = nats::connect(&config.service.nats_url, "command-service").await?;
    let log = EventLog::new(client, &config.service.namespace);
    tracing::info!(address = %listener.local_addr()?, namespace = config.service.namespace, "serving commands");

    let (handle, mut writer) = writer::spawn(log, config.queue_commands_max, health.clone());
    let routes = http::routes(handle, config.queue_commands_max, shutdown.clone());
    tokio::select! {
        served = service_kit::http::serve(listener, routes, health, shutdown) => served?,
        // While there are routes, only a panic ends it: better no service than one that can never answer.
        ended = &mut writer => anyhow::bail!("the writer ended: {ended:?}"),
    }
    // All handles went with the routes, so the writer finishes what was queued and ends.
    let _ = tokio::time::timeout(WRITER_FINISH_TIME_MAX, writer).await;
    Ok(())
}
