//! One nats-server, set up by the repository's own configuration files.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::nats_files::{self, Namespaces};
use super::nats_users::{ADMIN, Passwords};
use super::{STOP_WITHIN, ServerConfig, locate};
use crate::ports;
use crate::process::Signal;
use crate::program::{Program, Running};
use crate::readiness::Readiness;

pub(super) const ALONE: &str = "include ./server.conf\n";

pub struct Nats {
    running: Running,
    port: u16,
    monitor_port: u16,
    passwords: Passwords,
}

/// What a server is started with beside its folder and port.
pub(super) struct Setup {
    pub name: String,
    /// The configuration, which includes files of `nats/`.
    pub text: String,
    pub namespaces: Namespaces,
    pub passwords: Passwords,
    /// What the configuration names beyond what every server has.
    pub env: Vec<(&'static str, OsString)>,
    pub readiness: Readiness,
}

impl Nats {
    /// Starts a server with JetStream over whatever its folder holds, and waits until it serves. Its users may use any
    /// namespace.
    pub async fn start(config: ServerConfig) -> Result<Self> {
        Self::alone(config, ALONE, Namespaces::All).await
    }

    /// The same for users that may use one namespace.
    pub async fn start_for(config: ServerConfig, namespace: &str) -> Result<Self> {
        Self::alone(config, ALONE, Namespaces::One(namespace.to_owned())).await
    }

    /// The same with another configuration than the repository's, which may name the same variables and files.
    pub async fn start_configured(config: ServerConfig, text: &str) -> Result<Self> {
        Self::alone(config, text, Namespaces::All).await
    }

    async fn alone(config: ServerConfig, text: &str, namespaces: Namespaces) -> Result<Self> {
        let passwords = Passwords::of(&config.folder)?;
        if text == ALONE {
            move_streams_from_before(&config.folder)?;
        }
        let readiness = Readiness::NatsGreeting { port: config.port };
        let (name, text, env) = ("headwater".to_owned(), text.to_owned(), Vec::new());
        Self::launch(config, Setup { name, text, namespaces, passwords, env, readiness }).await
    }

    pub(super) async fn launch(config: ServerConfig, setup: Setup) -> Result<Self> {
        let binary = locate::nats_server().await?;
        let folder = std::path::absolute(&config.folder)?;
        let configuration = nats_files::write(&folder, &setup.text, &setup.namespaces)?;
        let monitor_port = ports::next_free(0)?;
        let mut env = setup.env;
        env.extend([
            ("NATS_LISTEN", format!("127.0.0.1:{}", config.port).into()),
            ("NATS_MONITOR_LISTEN", format!("127.0.0.1:{monitor_port}").into()),
            ("NATS_ZONE", format!("'zone:{}'", setup.name).into()),
            ("NATS_SERVER_NAME", setup.name.into()),
            ("NATS_STORE_DIR", quoted(&folder)),
        ]);
        env.extend(setup.passwords.env());
        let program = Program {
            name: "nats-server",
            binary,
            args: vec!["--config".into(), configuration.into()],
            env,
            folder: None,
            user: None,
            log: config.log,
            readiness: setup.readiness,
            stop_signal: Signal::TERM,
            retry_for: Duration::ZERO,
        };
        let running = Running::start(program).await?;
        Ok(Self { running, port: config.port, monitor_port, passwords: setup.passwords })
    }

    /// Where it is, for the user that may do everything with streams. It holds the password.
    pub fn url(&self) -> String {
        self.url_as(ADMIN)
    }

    /// The same for another user: a service's has the service's name. Who is no user is refused by the server.
    pub fn url_as(&self, user: &str) -> String {
        self.passwords.url("nats", user, self.port)
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

    /// SIGTERM, and SIGKILL to one that does not mind it.
    pub async fn stop(&self) {
        self.running.stop(STOP_WITHIN).await;
    }

    /// Stops the server if it runs, and starts it on the same port over the same data.
    pub async fn restart(&mut self) -> Result<()> {
        self.running.restart(STOP_WITHIN).await
    }

    pub(crate) fn into_running(self) -> Running {
        self.running
    }
}

/// Servers had no accounts once, and kept their streams under the name of none.
fn move_streams_from_before(folder: &Path) -> Result<()> {
    let (before, now) = (folder.join("jetstream/$G"), folder.join("jetstream/HEADWATER"));
    if before.join("streams").exists() && !now.exists() {
        fs::rename(&before, &now).with_context(|| format!("cannot move {}", before.display()))?;
    }
    Ok(())
}

/// nats-server parses the variables that its configuration names: without quotes, a space would end the path.
pub(super) fn quoted(path: &Path) -> OsString {
    let mut quoted = OsString::from("'");
    quoted.push(path);
    quoted.push("'");
    quoted
}
