//! What is measured, each in a process of its own: NATS, Postgres, our services, the services to compare with.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::{self, stream};
use stack::program::{Program, Running};
use stack::servers::{NatsCluster, Postgres, ServerConfig};
use stack::services::{self, COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, ServiceConfig, TASK_WORKER};
use stack::{ports, process, readiness};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::machine::Machine;

/// The name of every stream and subject of the command-service starts with it.
pub const NAMESPACE: &str = "bench";

/// How long a service may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// NATS on one node or several, in a folder that is its own.
pub struct Site {
    pub nats: NatsCluster,
    folder: TempDir,
}

impl Site {
    pub async fn start(nats_nodes: usize) -> Result<Self> {
        let folder = stack::servers::temporary_folder()?;
        let node = |node| ServerConfig::within(folder.path().join(format!("nats-{node}")));
        let nats = NatsCluster::start((1..=nats_nodes).map(node).collect::<Result<_>>()?).await?;
        Ok(Self { nats, folder })
    }

    pub async fn client(&self) -> Result<async_nats::Client> {
        Ok(service_kit::nats::connect_now(&self.nats.url(), "bench").await?)
    }

    /// Every stream has a copy on each node.
    fn replicas(&self) -> usize {
        self.nats.nodes.len()
    }

    pub async fn machine(&self) -> Result<Machine> {
        let version = self.client().await?.server_info().version;
        Machine::examine(&version, self.folder.path())
    }

    /// Makes a stream that is as durable as the log: all subjects below `name`.
    pub async fn make_stream(&self, name: &str) -> Result<jetstream::Context> {
        let jetstream = jetstream::new(self.client().await?);
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::New,
            allow_direct: true,
            num_replicas: self.replicas(),
            ..Default::default()
        };
        jetstream.create_stream(config).await.with_context(|| format!("cannot make the stream {name}"))?;
        Ok(jetstream)
    }

    /// Starts the command-service and waits until it is ready.
    pub async fn command_service(&self) -> Result<Service> {
        self.command_service_with(&[]).await
    }

    /// The same with settings.
    pub async fn command_service_with(&self, settings: &[(&'static str, &str)]) -> Result<Service> {
        let replicas = self.replicas().to_string();
        let settings: Vec<_> =
            settings.iter().copied().chain([("HEADWATER_LOG_REPLICAS", replicas.as_str())]).collect();
        self.service(COMMAND_SERVICE, None, &settings).await
    }

    /// Starts a Postgres as the stack does.
    pub async fn postgres(&self) -> Result<Postgres> {
        self.postgres_of("postgres").await
    }

    /// The same for another than ourselves, in a folder of its own.
    pub async fn postgres_of(&self, name: &str) -> Result<Postgres> {
        Postgres::start(ServerConfig::within(self.folder.path().join(name))?, &[]).await
    }

    /// Starts a standby of a Postgres.
    pub async fn standby(&self, primary: &Postgres) -> Result<Postgres> {
        primary.standby(ServerConfig::within(self.folder.path().join("standby"))?).await
    }

    /// Starts the projector, which folds `views` alone, or all if none is named, and waits until it is ready.
    pub async fn projector(&self, database_url: String, views: &[&str]) -> Result<Service> {
        let views = views.join(",");
        let settings = if views.is_empty() { &[][..] } else { &[("HEADWATER_VIEWS", views.as_str())] };
        self.service(PROJECTOR, Some(database_url), settings).await
    }

    /// Starts the query-service with these settings, and waits until it is ready.
    pub async fn query_service(
        &self,
        database_url: String,
        settings: &[(&'static str, &str)],
    ) -> Result<Service> {
        self.service(QUERY_SERVICE, Some(database_url), settings).await
    }

    /// Starts the task-worker, whose emails go where `mail` says, and waits until it is ready.
    pub async fn task_worker(&self, mail: &str, settings: &[(&'static str, &str)]) -> Result<Service> {
        let settings: Vec<_> = settings.iter().copied().chain([("HEADWATER_MAIL", mail)]).collect();
        self.service(TASK_WORKER, None, &settings).await
    }

    async fn service(
        &self,
        name: &'static str,
        database_url: Option<String>,
        settings: &[(&'static str, &str)],
    ) -> Result<Service> {
        let binaries = services::find_or_build(&[name]).await?;
        let port = ports::next_free(0)?;
        let config = ServiceConfig {
            port,
            namespace: NAMESPACE.to_owned(),
            nats_url: self.nats.url_as(name),
            nats_monitor_url: self.nats.monitor_url(),
            state_folder: database_url.is_none().then(|| self.data_folder()),
            database_url,
            settings: settings.iter().map(|(name, value)| (*name, value.into())).collect(),
            log: self.log_file(name),
        };
        let program = services::program(&binaries, name, config);
        Service::start(program, port).await
    }

    /// Where a program logs.
    pub fn log_file(&self, program: &str) -> PathBuf {
        self.folder.path().join(format!("{program}.log"))
    }

    /// Where another than our services keeps its data.
    pub fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the command-service keeps its state.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join(COMMAND_SERVICE)
    }

    /// Starts the service to compare commands with, over a stream of its own.
    pub async fn naive_service(&self) -> Result<Service> {
        self.make_stream("naive").await?;
        self.part_of_us("naive-service", &[]).await
    }

    /// Starts the service to compare reads with, which always gives the answer in this file.
    pub async fn static_service(&self, answer: &Path) -> Result<Service> {
        self.part_of_us("static-service", &["--answer".as_ref(), answer.as_os_str()]).await
    }

    /// Starts a service that is a part of this very program.
    async fn part_of_us(&self, name: &'static str, args: &[&OsStr]) -> Result<Service> {
        let (mut program, port) = self.other_program(name, std::env::current_exe()?)?;
        program.args = [name.as_ref()].iter().chain(args).map(|arg| arg.to_os_string()).collect();
        program.env.push(("NATS_URL", self.nats.url().into()));
        Service::start(program, port).await
    }

    /// A program that is none of our services, and the port of 127.0.0.1 that it is told to listen on.
    pub fn other_program(&self, name: &str, binary: PathBuf) -> Result<(Program, u16)> {
        let port = ports::next_free(0)?;
        let program = Program {
            name: name.to_owned(),
            binary,
            args: Vec::new(),
            env: vec![("HEADWATER_LISTEN", format!("127.0.0.1:{port}").into())],
            folder: None,
            user: None,
            log: self.log_file(name),
            readiness: readiness::Readiness::Health { url: format!("http://127.0.0.1:{port}/health/ready") },
            stop_signal: process::Signal::TERM,
            retry_for: Duration::ZERO,
        };
        Ok((program, port))
    }
}

/// A running service. Dropping it stops it.
pub struct Service {
    pub address: SocketAddr,
    /// From its start until it said that it was ready.
    pub ready_after: Duration,
    running: Running,
}

impl Service {
    pub async fn start(program: Program, port: u16) -> Result<Self> {
        let started = Instant::now();
        let running = Running::start(program).await?;
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), ready_after: started.elapsed(), running })
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for `work`, unless the service ends first, which is an error.
    pub async fn until<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Self { running, .. } = self;
        tokio::select! {
            result = work => result.with_context(|| format!("{}'s log:\n{}", running.name(), running.last_words())),
            status = running.exited() => {
                let status = process::describe(status);
                bail!("{} has ended ({status}); its log:\n{}", running.name(), running.last_words())
            }
        }
    }

    pub async fn stop(self) {
        self.running.stop(STOP_WITHIN).await;
    }
}
