//! What peers are made of, fetched by the package managers of their languages and checked by these against hashes. It
//! stays beside what cargo builds, and is fetched again when the list of packages changes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use stack::program;

/// A peer's sources.
pub fn sources(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer)
}

/// Where what is fetched or built for a peer is kept.
pub fn folder(peer: &str) -> Result<PathBuf> {
    let us = env::current_exe().context("cannot tell where this program is")?;
    // <target>/<profile>/headwater-bench
    let target = us.ancestors().nth(2).context("this program is in no folder of cargo's")?;
    let folder = target.join("peers").join(peer);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The Python packages that the peer's `requirements.txt` lists, in a folder for `PYTHONPATH`. Wheels alone: nothing
/// is built, and nothing of theirs is run.
pub async fn pip(peer: &str) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    pip.args(["--only-binary=:all:", "--target", ".", "--requirement", "requirements.txt"]);
    install(peer, &["requirements.txt"], "pip install", pip).await
}

/// The packages of the peer's `package-lock.json`, with a copy of the peer, which finds them beside itself.
pub async fn npm(peer: &str, sources: &[&str]) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let files: Vec<&str> = ["package.json", "package-lock.json"].iter().chain(sources).copied().collect();
    install(peer, &files, "npm ci", npm).await
}

/// Where what [`pip`] and [`npm`] fetched is.
pub fn installed(peer: &str) -> Result<PathBuf> {
    Ok(folder(peer)?.join("installed"))
}

/// Copies `files` into an empty folder and runs the command there, unless that was done with the very same files.
async fn install(peer: &str, files: &[&str], what: &str, mut command: Command) -> Result<()> {
    let (from, folder, installed) = (sources(peer), folder(peer)?, installed(peer)?);
    let is_same = |file: &&str| match (fs::read(from.join(file)), fs::read(installed.join(file))) {
        (Ok(source), Ok(copy)) => source == copy,
        _ => false,
    };
    if files.iter().all(is_same) {
        return Ok(());
    }
    eprintln!("fetching what {peer} is made of ({what})");
    // Built aside and then renamed: what was left half-way is never used.
    let aside = tempfile::tempdir_in(&folder)?;
    for file in files {
        fs::copy(from.join(file), aside.path().join(file))
            .with_context(|| format!("{peer} has no {file}"))?;
    }
    command.current_dir(aside.path());
    program::run_once(what, command, &folder.join("install.log")).await?;
    let _ = fs::remove_dir_all(&installed);
    fs::rename(aside.keep(), &installed)?;
    Ok(())
}

/// Builds the peer's own workspace, for whom it keeps its own lock file.
pub async fn cargo(peer: &str) -> Result<()> {
    let folder = folder(peer)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(sources(peer).join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&folder);
    eprintln!("building {peer}, unless that was done before");
    program::run_once("cargo build", cargo, &folder.join("build.log")).await
}

/// A program that [`cargo`] built.
pub fn built(peer: &str, program: &str) -> Result<PathBuf> {
    Ok(folder(peer)?.join("release").join(program))
}
