//! What is measured, each in a process of its own: NATS, Postgres, our services, the service to compare with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::{self, stream};
use stack::program::{Program, Running};
use stack::servers::{NatsCluster, Postgres, ServerConfig};
use stack::services::{self, COMMAND_SERVICE, PROJECTOR, ServiceConfig};
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
        let url = self.nats.url();
        let servers: Vec<&str> = url.split(',').collect();
        async_nats::connect(servers).await.context("cannot connect to NATS")
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
        let binaries = services::find_or_build(&[COMMAND_SERVICE]).await?;
        let port = ports::next_free(0)?;
        let config = ServiceConfig {
            port,
            namespace: NAMESPACE.to_owned(),
            nats_url: self.nats.url(),
            nats_monitor_url: self.nats.monitor_url(),
            database_url: None,
            state_folder: Some(self.data_folder()),
            log: self.log_file(COMMAND_SERVICE),
        };
        let mut program = services::program(&binaries, COMMAND_SERVICE, config);
        program.env.push(("HEADWATER_LOG_REPLICAS", self.replicas().to_string().into()));
        Service::start(program, port).await
    }

    /// Starts a Postgres as the stack does.
    pub async fn postgres(&self) -> Result<Postgres> {
        Postgres::start(ServerConfig::within(self.folder.path().join("postgres"))?, &[]).await
    }

    /// Starts the projector, which folds `views` alone, or all if none is named, and waits until it is ready.
    pub async fn projector(&self, database_url: String, views: &[&str]) -> Result<Service> {
        let binaries = services::find_or_build(&[PROJECTOR]).await?;
        let port = ports::next_free(0)?;
        let config = ServiceConfig {
            port,
            namespace: NAMESPACE.to_owned(),
            nats_url: self.nats.url(),
            nats_monitor_url: self.nats.monitor_url(),
            database_url: Some(database_url),
            state_folder: None,
            log: self.log_file(PROJECTOR),
        };
        let mut program = services::program(&binaries, PROJECTOR, config);
        if !views.is_empty() {
            program.env.push(("HEADWATER_VIEWS", views.join(",").into()));
        }
        Service::start(program, port).await
    }

    /// Where a program logs.
    pub fn log_file(&self, program: &str) -> PathBuf {
        self.folder.path().join(format!("{program}.log"))
    }

    /// Where the command-service keeps its state.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join(COMMAND_SERVICE)
    }

    /// Starts the service to compare with, over a stream of its own.
    pub async fn naive_service(&self) -> Result<Service> {
        self.make_stream("naive").await?;
        let port = ports::next_free(0)?;
        let program = Program {
            name: "naive-service",
            binary: std::env::current_exe()?,
            args: vec!["naive-service".into()],
            env: vec![
                ("HEADWATER_LISTEN", format!("127.0.0.1:{port}").into()),
                ("NATS_URL", self.nats.url().into()),
            ],
            folder: None,
            user: None,
            log: self.log_file("naive-service"),
            readiness: readiness::Readiness::Health { base: format!("http://127.0.0.1:{port}") },
            stop_signal: process::Signal::TERM,
            retry_for: Duration::ZERO,
        };
        Service::start(program, port).await
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
    async fn start(program: Program, port: u16) -> Result<Self> {
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
