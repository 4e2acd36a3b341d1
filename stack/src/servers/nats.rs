//! One nats-server with JetStream, set up by the repository's own configuration files.

use std::ffi::OsString;
use std::fs;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{STOP_WITHIN, ServerConfig, locate};
use crate::ports;
use crate::process::Signal;
use crate::program::{Program, Running};
use crate::readiness::Readiness;

pub(super) const CONFIGURATION: &str = include_str!("../../../nats/server.conf");
const CLUSTER_CONFIGURATION: &str = include_str!("../../../nats/cluster.conf");

pub struct Nats {
    running: Running,
    port: u16,
    monitor_port: u16,
}

/// What a server is among others.
pub(super) enum Role {
    Alone,
    /// One of a cluster: it listens on `port` for the others, which listen on `routes`.
    Member {
        name: String,
        port: u16,
        routes: Vec<u16>,
    },
}

impl Nats {
    /// Starts the server over whatever its folder holds, and waits until it serves.
    pub async fn start(config: ServerConfig) -> Result<Self> {
        Self::launch(config, CONFIGURATION, Role::Alone).await
    }

    /// The same with another configuration than the repository's, which may name the same variables.
    pub async fn start_configured(config: ServerConfig, text: &str) -> Result<Self> {
        Self::launch(config, text, Role::Alone).await
    }

    pub(super) async fn launch(config: ServerConfig, text: &str, role: Role) -> Result<Self> {
        let binary = locate::nats_server().await?;
        let folder = std::path::absolute(&config.folder)?;
        let failed = || format!("cannot write to {}", folder.display());
        fs::create_dir_all(&folder).with_context(failed)?;
        let mut configuration = folder.join("server.conf");
        fs::write(&configuration, text).with_context(failed)?;
        let monitor_port = ports::next_free(0)?;
        let mut env = vec![
            ("NATS_LISTEN", format!("127.0.0.1:{}", config.port).into()),
            ("NATS_MONITOR_LISTEN", format!("127.0.0.1:{monitor_port}").into()),
        ];
        let readiness = match role {
            Role::Alone => {
                env.push(("NATS_SERVER_NAME", "headwater".into()));
                Readiness::NatsGreeting { port: config.port }
            }
            Role::Member { name, port, routes } => {
                configuration = folder.join("cluster.conf");
                fs::write(&configuration, CLUSTER_CONFIGURATION).with_context(failed)?;
                let routes = routes.iter().map(|port| format!("'nats://127.0.0.1:{port}'"));
                env.push(("NATS_SERVER_NAME", name.into()));
                env.push(("NATS_CLUSTER_LISTEN", format!("127.0.0.1:{port}").into()));
                env.push((
                    "NATS_CLUSTER_ROUTES",
                    format!("[{}]", routes.collect::<Vec<_>>().join(", ")).into(),
                ));
                Readiness::JetStream { port: config.port }
            }
        };
        env.push(("NATS_STORE_DIR", quoted(folder.into_os_string())));
        let program = Program {
            name: "nats-server".to_owned(),
            binary,
            args: vec!["--config".into(), configuration.into()],
            env,
            folder: None,
            user: None,
            log: config.log,
            readiness,
            stop_signal: Signal::TERM,
            retry_for: Duration::ZERO,
        };
        Ok(Self { running: Running::start(program).await?, port: config.port, monitor_port })
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it tells about itself, over HTTP.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits until the server has ended.
    pub async fn exited(&self) -> ExitStatus {
        self.running.exited().await
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.running.kill().await;
    }

    /// Stops the server if it runs, and starts it on the same port over the same data.
    pub async fn restart(&mut self) -> Result<()> {
        self.running.restart(STOP_WITHIN).await
    }

    pub(crate) fn into_running(self) -> Running {
        self.running
    }
}

/// nats-server parses the variables that its configuration names: without quotes, a space would end the path.
fn quoted(path: OsString) -> OsString {
    let mut quoted = OsString::from("'");
    quoted.push(path);
    quoted.push("'");
    quoted
}
