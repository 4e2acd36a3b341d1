//! One Postgres on loopback, with the defaults that make a commit durable.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cluster::Cluster;
use super::postgres_users::Users;
use super::{STOP_WITHIN, ServerConfig, locate};
use crate::process::Signal;
use crate::program::{Program, Running};
use crate::readiness::Readiness;

/// After a postmaster was killed its backends live on for a moment, and keep the next one from starting.
const RETRY_FOR: Duration = Duration::from_secs(6);

/// As much of what was written is kept for a standby that is away. One that was away for longer has to be copied anew;
/// a slot would keep it whatever it takes, until the disk is full.
const KEPT_FOR_STANDBYS: (&str, &str) = ("wal_keep_size", "512MB");

/// A standby that has lost its primary tries so often to find it again.
const FIND_PRIMARY_EVERY: (&str, &str) = ("wal_retrieve_retry_interval", "500ms");

pub struct Postgres {
    running: Running,
    bin: PathBuf,
    password: String,
    port: u16,
    settings: Vec<(String, String)>,
    users: Option<Users>,
}

impl Postgres {
    /// Starts the server over the database cluster in its folder, which is made when missing, and waits until it
    /// serves. `settings` are added to the server's defaults. The services' users are made.
    pub async fn start(config: ServerConfig, settings: &[(&str, &str)]) -> Result<Self> {
        let bin = locate::postgres_bin().await?;
        let cluster = Cluster::open(&bin, &config).await?;
        let server = Self::run(bin, cluster, config, settings).await?;
        let users = Users::make(&server.url()).await?;
        Ok(Self { users: Some(users), ..server })
    }

    /// Copies this server, which must run, into a folder of its own, where a copy from before is replaced, and starts
    /// a standby over the copy: it follows this server, has the same settings and the same users, and can only be
    /// read from.
    pub async fn standby(&self, config: ServerConfig) -> Result<Self> {
        let cluster = Cluster::copy(&self.bin, &config, self.port, &self.password).await?;
        // Some, such as the number of connections, may not be lower than those of the primary.
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = settings.chain([FIND_PRIMARY_EVERY]).collect();
        let standby = Self::run(self.bin.clone(), cluster, config, &settings).await?;
        Ok(Self { users: self.users.clone(), ..standby })
    }

    async fn run(
        bin: PathBuf,
        cluster: Cluster,
        config: ServerConfig,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        remove_stale_pid_file(&cluster.data)?;
        let mut args = vec!["-D".into(), cluster.data.clone().into_os_string()];
        let port = config.port.to_string();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", ""),
            KEPT_FOR_STANDBYS,
        ];
        for (name, value) in ours.iter().chain(settings) {
            args.extend([OsString::from("-c"), format!("{name}={value}").into()]);
        }
        let program = Program {
            name: "postgres".to_owned(),
            binary: bin.join("postgres"),
            args,
            env: Vec::new(),
            readiness: Readiness::PostmasterFile { path: cluster.data.join("postmaster.pid") },
            folder: Some(cluster.data),
            user: cluster.user,
            log: config.log,
            // Fast shutdown: ends the sessions, writes a checkpoint.
            stop_signal: Signal::INT,
            retry_for: RETRY_FOR,
        };
        Ok(Self {
            running: Running::start(program).await?,
            bin,
            password: cluster.password,
            port: config.port,
            settings: settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            users: None,
        })
    }

    /// The URL of the database `headwater`, as its superuser.
    pub fn url(&self) -> String {
        self.database_url("headwater")
    }

    /// The URL of another database on this server, as its superuser.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://headwater:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The URL of one of its databases as the user of a service.
    pub fn url_as(&self, user: &str, url: &str) -> String {
        self.users.as_ref().map_or_else(|| url.to_owned(), |users| users.instead(url, user))
    }

    /// Another of PostgreSQL's programs, such as `pgbench`, told to connect to this database as the superuser.
    pub fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGDATABASE", database);
        command.env("PGUSER", "headwater").env("PGPASSWORD", &self.password);
        command
    }

    /// Of the postmaster.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits until the server has ended.
    pub async fn exited(&self) -> ExitStatus {
        self.running.exited().await
    }

    /// SIGKILL to the postmaster; its backends notice and end, too.
    pub async fn kill(&self) {
        self.running.kill().await;
    }

    /// Ends the sessions, sends the standbys everything, and stops.
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

/// After a crash the pid in the file may belong to a stranger by now, for whom Postgres would wait for ever.
/// Postgres itself copes with a pid that nobody has, and with backends that are still there.
fn remove_stale_pid_file(data: &Path) -> Result<()> {
    let file = data.join("postmaster.pid");
    let Some(pid) =
        fs::read_to_string(&file).ok().and_then(|text| Some(text.lines().next()?.trim().to_owned()))
    else {
        return Ok(());
    };
    // A postmaster works in its data folder. Where this cannot be told, Postgres decides.
    let works_in: Option<PathBuf> = fs::read_link(format!("/proc/{pid}/cwd")).ok();
    if works_in.is_some_and(|folder| Some(folder) != data.canonicalize().ok()) {
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}
