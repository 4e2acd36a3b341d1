//! One nats-server, set up by the repository's own configuration files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::certificates::{Authority, tls};
use super::nats_files::{self, Namespaces};
use super::nats_users::{ADMIN, Passwords};
use super::{STOP_WITHIN, ServerConfig, locate};
use crate::ports;
use crate::process::Signal;
use crate::program::{Program, Running};
use crate::readiness::Readiness;

const ALONE: &str = "include ./server.conf\n";
const HUB: &str = "include ./server.conf\ninclude ./leafnodes.conf\n";
const LEAF: &str = "include ./leaf.conf\n";

/// Go's variable for what a program may take of memory before it collects in earnest. NATS keeps whatever was read of a
/// stream within ten seconds: while a long log is folded, that is all of it, unless this is set.
const MEMORY_LIMIT: &str = "GOMEMLIMIT";
const MEMORY_LIMIT_DEFAULT: &str = "512MiB";

pub struct Nats {
    running: Running,
    port: u16,
    monitor_port: u16,
    passwords: Passwords,
    leafnodes: Option<Leafnodes>,
}

/// Where a server of the centre listens for those of regions, and by whose certificate it is known.
struct Leafnodes {
    port: u16,
    authority: PathBuf,
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
    /// Clients know no other nodes of the cluster than those they were told of by their own URLs.
    pub is_silent_of_others: bool,
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
        Self::launch(
            config,
            Setup { name, text, namespaces, passwords, env, readiness, is_silent_of_others: false },
        )
        .await
    }

    /// The same as [`Nats::start`], for a centre that regions have leaf nodes of.
    pub async fn start_hub(config: ServerConfig) -> Result<Self> {
        let passwords = Passwords::of(&config.folder)?;
        Authority::new()?.certify(&config.folder)?;
        let authority = std::path::absolute(config.folder.join("authority.pem"))?;
        let port = ports::next_free(0)?;
        let mut env = tls(&config.folder)?;
        env.push(("NATS_LEAFNODES_LISTEN", format!("127.0.0.1:{port}").into()));
        let setup = Setup {
            name: "headwater".to_owned(),
            text: HUB.to_owned(),
            namespaces: Namespaces::All,
            passwords,
            env,
            readiness: Readiness::NatsGreeting { port: config.port },
            is_silent_of_others: false,
        };
        Ok(Self { leafnodes: Some(Leafnodes { port, authority }), ..Self::launch(config, setup).await? })
    }

    /// Starts a region's node of this centre. It does not wait until they are connected.
    pub async fn leaf(&self, config: ServerConfig) -> Result<Self> {
        self.leaf_configured(config, LEAF).await
    }

    /// The same with another configuration than the repository's, which may name the same variables and files.
    pub async fn leaf_configured(&self, config: ServerConfig, text: &str) -> Result<Self> {
        let leafnodes = self.leafnodes.as_ref().context("this server listens for no leaf nodes")?;
        let url = self.passwords.url("tls", "region", leafnodes.port);
        let setup = Setup {
            name: "headwater-leaf".to_owned(),
            text: text.to_owned(),
            namespaces: Namespaces::All,
            passwords: self.passwords.only(&["query-service"]),
            env: vec![
                ("NATS_HUB_URLS", format!("['{url}']").into()),
                ("NATS_TLS_AUTHORITY", quoted(&leafnodes.authority)),
            ],
            readiness: Readiness::NatsGreeting { port: config.port },
            is_silent_of_others: false,
        };
        Self::launch(config, setup).await
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
        if std::env::var_os(MEMORY_LIMIT).is_none() {
            env.push((MEMORY_LIMIT, MEMORY_LIMIT_DEFAULT.into()));
        }
        let mut args: Vec<OsString> = vec!["--config".into(), configuration.into()];
        if setup.is_silent_of_others {
            args.push("--no_advertise".into());
        }
        let program = Program {
            name: "nats-server".to_owned(),
            binary,
            args,
            env,
            folder: None,
            user: None,
            log: config.log,
            readiness: setup.readiness,
            stop_signal: Signal::TERM,
            retry_for: Duration::ZERO,
        };
        let running = Running::start(program).await?;
        Ok(Self { running, port: config.port, monitor_port, passwords: setup.passwords, leafnodes: None })
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
