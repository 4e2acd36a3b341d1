//! What all programs that the stack runs have in common: start, wait until ready, stop, start again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{Process, Signal, describe};
use crate::readiness::Readiness;
use crate::servers::unprivileged::User;
use crate::{log_file, screen};

/// A program that still lacks the same thing after this long has failed. One that reports progress, such as a
/// service that folds a long log, may take longer.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What a program that is slow to become ready still lacks is told after this time, and whenever it changes.
const REPORT_AFTER: Duration = Duration::from_secs(5);

const POLL_EVERY: Duration = Duration::from_millis(20);
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Everything needed to start a program, as often as it takes, always on the same port.
pub struct Program {
    /// Of this one, if several of its kind run.
    pub name: String,
    pub binary: PathBuf,
    pub args: Vec<OsString>,
    /// Secrets go here and not into `args`, which every user of the machine can read.
    pub env: Vec<(&'static str, OsString)>,
    /// The working directory, when not ours.
    pub folder: Option<PathBuf>,
    /// Whom it runs as, when not as ourselves.
    pub user: Option<User>,
    pub log: PathBuf,
    pub readiness: Readiness,
    /// What asks the program to stop.
    pub stop_signal: Signal,
    /// For how long a program that ends before it is ready is started again.
    pub retry_for: Duration,
}

/// A program that runs. Dropping it stops it; `stop` does so without blocking the thread.
pub struct Running {
    program: Program,
    process: Process,
    /// Where in the log file this start began to write.
    log_start: u64,
}

impl Running {
    /// Starts the program and waits until it is ready.
    pub async fn start(program: Program) -> Result<Self> {
        let (process, log_start) = program.launch().await?;
        Ok(Self { program, process, log_start })
    }

    /// Stops the program if it runs, starts it again and waits until it is ready.
    pub async fn restart(&mut self, grace: Duration) -> Result<()> {
        self.stop(grace).await;
        (self.process, self.log_start) = self.program.launch().await?;
        Ok(())
    }

    /// Asks the program to stop; kills it when it has not done so within `grace`.
    pub async fn stop(&self, grace: Duration) {
        self.process.stop(grace).await;
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    pub async fn exited(&self) -> ExitStatus {
        self.process.exited().await
    }

    /// The same under another name.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.program.name);
        self
    }

    pub fn name(&self) -> &str {
        &self.program.name
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The last lines that it logged since it was last started.
    pub fn last_words(&self) -> String {
        log_file::tail(&self.program.log, self.log_start)
    }
}

impl Program {
    async fn launch(&self) -> Result<(Process, u64)> {
        let give_up = Instant::now() + self.retry_for;
        loop {
            let (process, log_start) = self
                .spawn()
                .with_context(|| format!("cannot start {} ({})", self.name, self.binary.display()))?;
            match self.ready(&process, log_start).await {
                Ok(()) => return Ok((process, log_start)),
                Err(_) if process.exit_status().is_some() && Instant::now() < give_up => {
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn spawn(&self) -> Result<(Process, u64)> {
        let (log, log_start) = log_file::append(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some(user) = &self.user {
            user.run(&mut command);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok((Process::spawn(command, self.stop_signal)?, log_start))
    }

    async fn ready(&self, process: &Process, log_start: u64) -> Result<()> {
        let name = &self.name;
        let mut known = String::new();
        let mut since = Instant::now();
        let mut told = false;
        loop {
            // Asked before the check: a process that ended may have left something behind that looks ready.
            if let Some(status) = process.exit_status() {
                let words = log_file::tail(&self.log, log_start);
                bail!("{name} ended before it was ready ({}); its log:\n{words}", describe(status));
            }
            let Err(missing) = self.readiness.check(process.pid()).await else { return Ok(()) };
            if missing != known {
                (known, since, told) = (missing, Instant::now(), false);
            }
            if since.elapsed() > STUCK_AFTER {
                let words = log_file::tail(&self.log, log_start);
                bail!("{name} has not become ready for {STUCK_AFTER:?}: {known}; its log:\n{words}");
            }
            if !told && since.elapsed() > REPORT_AFTER {
                told = true;
                screen::say(format!("still waiting for {name}: {known}"));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

/// Runs a command to its end. What it prints goes to `log`, and its end into the error when it fails.
pub async fn run_once(name: &str, command: Command, log: &Path) -> Result<()> {
    run_with_input(name, command, Stdio::null(), log).await
}

/// `run_once` with something to read for the command.
pub async fn run_with_input(
    name: &str,
    mut command: Command,
    input: impl Into<Stdio>,
    log: &Path,
) -> Result<()> {
    let (file, log_start) = log_file::append(log)?;
    command.stdin(input).stdout(file.try_clone()?).stderr(file);
    let process = Process::spawn(command, Signal::TERM).with_context(|| format!("cannot run {name}"))?;
    let status = process.exited().await;
    if !status.success() {
        bail!("{name} failed ({}):\n{}", describe(status), log_file::tail(log, log_start));
    }
    Ok(())
}
