//! The command-service: HTTP → decide → append.
//!
//! [`http`] parses and answers; [`gateway`] takes a command to whichever instance writes; [`writer`] is the
//! one task that owns the [`state`], decides every command in order, and appends the events of all that
//! arrived meanwhile as one frame; [`lease`] chooses the instance that does so.

mod durability;
mod gateway;
mod http;
mod metrics;
mod permit;
mod state;
mod submission;
mod writer;

use std::{net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use event_log::EventLog;
use service_kit::{
    Health, Shutdown,
    auth::{Auth, AuthArgs},
    config,
    http::HttpArgs,
    load::{Load, LoadArgs, Queue, Room},
    nats, shutdown,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::task::AbortOnDropHandle;

use gateway::{Gateway, Route};
use metrics::Metrics;
use service_kit::lease::Instance;
use writer::Writer;

/// What is queued at the end takes one append, and what is not yet on disk one write; without a log to append
/// to, waiting helps nobody.
const WRITER_FINISH_TIME_MAX: Duration = Duration::from_secs(1);

/// So long may a command wait for the writer, beside as long that those take which it is deciding.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(30);
/// However slow the writer is, so many commands may wait for it: enough for a frame that is worth its sync.
const QUEUE_MIN: usize = 256;

/// The command-service takes commands over HTTP and appends their events to the log.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "command-service", version, mut_arg("p99_target_ms", |arg| arg.default_value("100")))]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8081", value_parser = config::listen_address)]
    pub listen: SocketAddr,

    /// Commands that may wait for the writer, at the most; what comes on top is answered 503 at once. Under load fewer
    /// may: no more than it decides in 30 ms, or 256.
    #[arg(long, env = "HEADWATER_QUEUE_COMMANDS_MAX", default_value_t = 8192,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub queue_commands_max: usize,

    /// Folder for the state that decisions need, which is folded from the log: it may be deleted. Each
    /// instance needs its own.
    #[arg(long, env = "HEADWATER_STATE_DIR", default_value = ".headwater/state")]
    pub state_dir: PathBuf,

    /// Servers that keep a copy of the log, if the log has yet to be created; 1, or 3 or 5 in a cluster.
    #[arg(long, env = "HEADWATER_LOG_REPLICAS", default_value_t = 1,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=5))]
    pub log_replicas: usize,

    #[command(flatten)]
    pub durability: durability::DurabilityArgs,

    #[command(flatten)]
    pub service: config::ServiceArgs,

    #[command(flatten)]
    pub http: HttpArgs,

    #[command(flatten)]
    pub auth: AuthArgs,

    #[command(flatten)]
    pub load: LoadArgs,
}

/// Serves until it has drained after `leaving`; then finishes the requests that are under way and leaves. A writer
/// writes until then: whoever is asked instead of it forwards to it.
pub async fn serve(listener: TcpListener, config: Config, leaving: Shutdown) -> anyhow::Result<()> {
    let auth = Auth::start(&config.auth, listener.local_addr()?, leaving.clone()).await?;
    let health = Health::starting([writer::HEALTH_CHECK]);
    let shutdown = shutdown::drained(leaving, health.clone(), config.http.drain());
    let client = nats::connect(&config.service.nats, "command-service").await?;
    let log = EventLog::new(client.clone(), &config.service.namespace).with_replicas(config.log_replicas);
    let me = Instance::new();
    tracing::info!(address = %listener.local_addr()?, namespace = config.service.namespace, instance = %me,
        "serving commands");

    let (sender, queue) = mpsc::channel(config.queue_commands_max);
    let room = Arc::new(Room::new(QUEUE_WAIT_MAX, QUEUE_MIN, config.queue_commands_max));
    let (route, routed) = watch::channel(Route::Nowhere);
    let gateway = Gateway::new(sender, room.clone(), routed, client.clone(), &config.service.namespace);
    let load = Load::new("command-service", me, config.load, queue_of(&gateway, config.queue_commands_max));
    let writer = Writer {
        log,
        me,
        folder: config.state_dir.join(&config.service.namespace),
        queue,
        room,
        route,
        health: health.clone(),
        metrics: Metrics::new(),
        shutdown: shutdown.clone(),
    };
    let durability = durability::Check::start(writer.log.clone(), config.durability).await?;
    let mut writer = AbortOnDropHandle::new(writer.spawn());
    let _forwarded = AbortOnDropHandle::new(tokio::spawn(gateway::serve_forwarded(gateway.clone(), me)));
    let saying = load.clone().run(client, config.service.namespace, shutdown.clone());
    let _saying = AbortOnDropHandle::new(tokio::spawn(saying));
    let ending = shutdown.clone();
    let routes =
        http::routes(gateway, config.queue_commands_max, health.clone(), auth.is_on(), shutdown.clone());
    let admin = config.service.admin_address;
    let service =
        service_kit::http::Service { name: "command-service", routes, health, load: Some(load), auth, admin };
    let mut serving = pin!(service_kit::http::serve(listener, service, &config.http, shutdown));
    tokio::select! {
        served = &mut serving => served?,
        Err(error) = durability.go_on() => return Err(error.into()),
        ended = &mut writer => {
            // Before shutdown only a panic ends it: better no service than one that can never answer.
            anyhow::ensure!(ending.is_cancelled(), "the writer ended: {ended:?}");
            return Ok(serving.await?);
        }
    }
    let _ = tokio::time::timeout(WRITER_FINISH_TIME_MAX, writer).await;
    Ok(())
}

fn queue_of(gateway: &Gateway, queue_commands_max: usize) -> Queue {
    let gateway = gateway.clone();
    Queue { length: Box::new(move || gateway.under_way() as u64), max: queue_commands_max as u64 }
}
