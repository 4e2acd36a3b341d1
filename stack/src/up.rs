//! `stack up`: one command, from nothing to a system that answers, until Ctrl-C.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use futures::{future::try_join_all, try_join};

use crate::data_folder::DataFolder;
use crate::endpoints::Endpoints;
use crate::program::{Program, Running};
use crate::sample::Sample;
use crate::servers::{Nats, Postgres, ServerConfig};
use crate::services::{self, COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, ServiceConfig, TASK_WORKER};
use crate::stop::Stop;
use crate::supervisor::Supervisor;
use crate::{operate, ports, screen};

/// A port that is taken is replaced by the next free one; 0 means any free port.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where everything is kept: log, database, log files, endpoints.json
    #[arg(long, env = "HEADWATER_DATA_DIR", default_value = ".headwater")]
    pub data_dir: PathBuf,

    /// Which sample is loaded when the log is empty
    #[arg(long, value_enum, default_value = "small")]
    pub sample: SampleChoice,

    /// Prefix of every stream and subject
    #[arg(long, env = "HEADWATER_NAMESPACE", default_value = "headwater")]
    pub namespace: String,

    /// Port of the command-service: POST commands here
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    pub command_port: u16,

    /// Port of the query-service: GET views here
    #[arg(long, value_name = "PORT", default_value_t = 8082)]
    pub query_port: u16,

    /// Port of the projector: health and metrics
    #[arg(long, value_name = "PORT", default_value_t = 8083)]
    pub projector_port: u16,

    /// Port of the task-worker: tasks and dead letters
    #[arg(long, value_name = "PORT", default_value_t = 8084)]
    pub task_worker_port: u16,

    /// Where emails go, as the task-worker takes it: smtp://…, smtps://…, file:<folder> or null:; without it, into the
    /// folder `mail` of the data folder
    #[arg(long, env = "HEADWATER_MAIL", hide_env_values = true, value_name = "URL")]
    pub mail: Option<String>,

    /// Port of the NATS server
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub nats_port: u16,

    /// Port of Postgres
    #[arg(long, value_name = "PORT", default_value_t = 5432)]
    pub postgres_port: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SampleChoice {
    /// CDNOW, every tenth customer: 2,357 customers with 6,919 orders
    Small,
    /// CDNOW, all 23,570 customers with 69,659 orders
    Full,
    /// Nothing
    None,
}

impl Options {
    /// Where emails go.
    pub fn mail_target(&self, data: &DataFolder) -> String {
        self.mail.clone().unwrap_or_else(|| format!("file:{}", data.path().join("mail").display()))
    }

    pub fn sample(&self) -> Option<Sample> {
        match self.sample {
            SampleChoice::Small => Some(Sample::Small),
            SampleChoice::Full => Some(Sample::Full),
            SampleChoice::None => None,
        }
    }
}

/// Runs the whole system until it is asked to stop.
pub async fn up(options: Options) -> Result<()> {
    let stop = Stop::on_signals()?;
    let data = DataFolder::lock(&options.data_dir)?;
    // Whatever ran on this folder before does not run any more.
    Endpoints::remove(data.path());

    // Dropped in the middle, `start` stops what it has started, services first.
    let started = tokio::select! {
        biased;
        () = stop.requested() => None,
        started = start(&options, &data) => Some(started?),
    };
    let Some(System { supervisor, endpoints, task_worker, started }) = started else {
        screen::say("stopped before everything had started");
        return Ok(());
    };
    let outcome = tokio::select! {
        biased;
        () = stop.requested() => Ok(()),
        outcome = operate::run(&options, &data, &supervisor, endpoints, task_worker, started) => outcome,
    };
    Endpoints::remove(data.path());
    screen::say("stopping …");
    supervisor.stop().await;
    screen::say("stopped");
    outcome
}

/// What runs, and what is yet to be started.
pub struct System {
    pub supervisor: Supervisor,
    pub endpoints: Endpoints,
    /// Started last, when there is nothing left in the log that nobody is owed an email for.
    pub task_worker: Program,
    /// When the start began, building apart.
    pub started: Instant,
}

async fn start(options: &Options, data: &DataFolder) -> Result<System> {
    let binaries = services::binaries().await?;
    let started = Instant::now();
    let ports = Ports::choose(options)?;

    let server = |name, port| {
        let log = data.fresh_log(name)?;
        anyhow::Ok(ServerConfig { folder: data.path().join(name), log, port })
    };
    let (nats, postgres) = try_join!(
        Nats::start_for(server("nats-server", ports.nats)?, &options.namespace),
        Postgres::start(server("postgres", ports.postgres)?, &[])
    )?;
    services::migrate(binaries, &postgres.url(), &data.fresh_log("migrate")?).await?;

    let service = |name, port, with_database: bool| {
        let config = ServiceConfig {
            port,
            namespace: options.namespace.clone(),
            nats_url: nats.url_as(name),
            nats_monitor_url: nats.monitor_url(),
            database_url: with_database.then(|| postgres.url()),
            state_folder: (name == COMMAND_SERVICE).then(|| data.path().join("state")),
            settings: vec![],
            log: data.fresh_log(name)?,
        };
        anyhow::Ok(Running::start(services::program(binaries, name, config)))
    };
    let services = try_join_all([
        service(COMMAND_SERVICE, ports.command, false)?,
        service(PROJECTOR, ports.projector, true)?,
        service(QUERY_SERVICE, ports.query, true)?,
    ])
    .await?;

    let task_worker = ServiceConfig {
        port: ports.task_worker,
        namespace: options.namespace.clone(),
        nats_url: nats.url_as(TASK_WORKER),
        nats_monitor_url: nats.monitor_url(),
        database_url: None,
        state_folder: None,
        settings: vec![
            ("HEADWATER_MAIL", options.mail_target(data).into()),
            ("HEADWATER_QUERY_URL", format!("http://127.0.0.1:{}", ports.query).into()),
        ],
        log: data.fresh_log(TASK_WORKER)?,
    };
    let task_worker = services::program(binaries, TASK_WORKER, task_worker);

    let base = |port| format!("http://127.0.0.1:{port}");
    let endpoints = Endpoints {
        command: base(ports.command),
        query: base(ports.query),
        projector: base(ports.projector),
        task_worker: base(ports.task_worker),
        nats: nats.url(),
        postgres: postgres.url(),
        pids: Default::default(),
    };
    let supervisor = Supervisor::new(services, vec![nats.into_running(), postgres.into_running()]);
    Ok(System { supervisor, endpoints, task_worker, started })
}

struct Ports {
    command: u16,
    query: u16,
    projector: u16,
    task_worker: u16,
    nats: u16,
    postgres: u16,
}

impl Ports {
    fn choose(options: &Options) -> Result<Self> {
        let choose = |name, wanted| {
            let port = ports::next_free(wanted)?;
            if wanted != 0 && port != wanted {
                screen::say(format!("port {wanted} is taken: {name} is on {port}"));
            }
            anyhow::Ok(port)
        };
        Ok(Self {
            command: choose(COMMAND_SERVICE, options.command_port)?,
            query: choose(QUERY_SERVICE, options.query_port)?,
            projector: choose(PROJECTOR, options.projector_port)?,
            task_worker: choose(TASK_WORKER, options.task_worker_port)?,
            nats: choose("nats-server", options.nats_port)?,
            postgres: choose("postgres", options.postgres_port)?,
        })
    }
}
