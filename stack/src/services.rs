//! Our own services, separate programs that are found beside this one, and built first where cargo is at hand.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::OnceCell;

use crate::process::{Process, Signal, describe};
use crate::program::{self, Program};
use crate::readiness::Readiness;

pub const COMMAND_SERVICE: &str = "command-service";
pub const PROJECTOR: &str = "projector";
pub const QUERY_SERVICE: &str = "query-service";
pub const TASK_WORKER: &str = "task-worker";

/// What a service is told, all of it through its environment.
pub struct ServiceConfig {
    pub port: u16,
    pub namespace: String,
    pub nats_url: String,
    pub nats_monitor_url: String,
    /// `None` for a service that needs no database.
    pub database_url: Option<String>,
    /// Where it keeps what it can fold again; `None` for a service that keeps nothing.
    pub state_folder: Option<PathBuf>,
    /// What it alone is told.
    pub settings: Vec<(&'static str, OsString)>,
    pub log: PathBuf,
}

/// The program for one of the services named above, found in `binaries`.
pub fn program(binaries: &Path, name: &'static str, config: ServiceConfig) -> Program {
    let mut env: Vec<(&'static str, OsString)> = vec![
        ("HEADWATER_LISTEN", format!("127.0.0.1:{}", config.port).into()),
        ("HEADWATER_NAMESPACE", config.namespace.into()),
        ("NATS_URL", config.nats_url.into()),
        ("NATS_MONITOR_URL", config.nats_monitor_url.into()),
    ];
    env.extend(config.database_url.map(|url| ("DATABASE_URL", url.into())));
    env.extend(config.state_folder.map(|folder| ("HEADWATER_STATE_DIR", folder.into())));
    env.extend(config.settings);
    Program {
        name: name.to_owned(),
        binary: binaries.join(name),
        args: Vec::new(),
        env,
        folder: None,
        user: None,
        log: config.log,
        readiness: Readiness::Health { url: format!("http://127.0.0.1:{}/health/ready", config.port) },
        stop_signal: Signal::TERM,
        retry_for: Duration::ZERO,
    }
}

/// Creates or updates the tables of the views.
pub async fn migrate(binaries: &Path, database_url: &str, log: &Path) -> Result<()> {
    let mut command = Command::new(binaries.join(PROJECTOR));
    command.arg("migrate").env("DATABASE_URL", database_url);
    program::run_once("projector migrate", command, log).await
}

/// The folder with the services' programs; builds them, once in a process, when we were started by cargo.
pub async fn binaries() -> Result<&'static Path> {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let all = [COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER];
    Ok(FOLDER.get_or_try_init(|| find_or_build(&all)).await?)
}

/// The same folder, with no more than the services named in it.
pub async fn find_or_build(names: &[&'static str]) -> Result<PathBuf> {
    let us = env::current_exe().context("cannot tell where this program is")?;
    let folder = us.parent().context("this program is in no folder")?;
    // Cargo puts tests one level below the programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    if let (Some(cargo), Some(package)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR")) {
        build(&cargo, Path::new(&package), folder, names).await?;
    }
    for name in names {
        if !folder.join(name).is_file() {
            bail!(
                "there is no {name} in {}: start the stack with `cargo run --release`, or put the services' \
                 programs beside it",
                folder.display()
            );
        }
    }
    Ok(folder.to_owned())
}

/// Builds the services into the folder that we were built into: cargo names it `<target>/<profile>`.
async fn build(cargo: &OsString, package: &Path, folder: &Path, names: &[&str]) -> Result<()> {
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
    else {
        bail!("{} is not a folder that cargo builds into", folder.display());
    };
    let profile = if profile == "debug" { "dev" } else { profile };
    let mut command = Command::new(cargo);
    // As parts of the workspace, so that they share what it has built: what features a dependency has depends on all
    // packages that are chosen.
    command.args(["build", "--profile", profile, "--workspace"]);
    command.args(names.iter().flat_map(|name| ["--bin", name]));
    command.arg("--manifest-path").arg(package.join("Cargo.toml")).arg("--target-dir").arg(target);
    // What cargo told us of our own package is no business of the build: a build script that looks at it would
    // run again whenever somebody else builds.
    for (name, _) in env::vars_os() {
        let is_ours = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|part| name.starts_with(part))
        });
        if is_ours {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = Process::spawn(command, Signal::TERM).context("cannot run cargo")?.exited().await;
    if !status.success() {
        bail!("cargo could not build the services ({})", describe(status));
    }
    Ok(())
}
