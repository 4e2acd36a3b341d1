//! wrk, the client of the fastest reads: it takes less of the processors that it shares with what is measured than
//! our own client does.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::programs;
use crate::report::Row;

/// What wrk runs for each request.
const SCRIPT: &str = include_str!("wrk.lua");

/// How much wrk asks, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Strength {
    pub connections: usize,
    pub threads: usize,
    pub seconds: u32,
    /// Seconds before.
    pub warm_up: u32,
}

/// wrk, and where its files are.
pub struct Wrk {
    folder: PathBuf,
    strength: Strength,
}

/// The requests of a load, in a file, and the token that all of them come with.
pub struct Paths {
    file: PathBuf,
    token: Option<String>,
}

impl Paths {
    pub fn with_token(&self, token: String) -> Self {
        Self { file: self.file.clone(), token: Some(token) }
    }
}

/// What the script tells in the end.
#[derive(Debug, Deserialize)]
struct Told {
    requests: u64,
    duration_us: f64,
    /// Answers with a status of 400 or more.
    status: u64,
    /// Connections that failed, and requests without an answer.
    broken: u64,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Wrk {
    pub fn new(folder: &Path, strength: Strength) -> Result<Self> {
        if Command::new("wrk").arg("-v").output().is_err() {
            bail!("`wrk` is not installed; it is the client of this benchmark (Debian: apt-get install wrk)");
        }
        let wrk = Self { folder: folder.to_owned(), strength };
        fs::write(wrk.script(), SCRIPT).context("cannot write wrk's script")?;
        Ok(wrk)
    }

    fn script(&self) -> PathBuf {
        self.folder.join("wrk.lua")
    }

    /// Writes the paths that are to be asked for, in this order, over and over.
    pub fn paths<'a>(&self, name: &str, paths: impl IntoIterator<Item = &'a str>) -> Result<Paths> {
        let file = self.folder.join(format!("{name}.paths"));
        let text: String = paths.into_iter().flat_map(|path| [path, "\n"]).collect();
        ensure!(!text.is_empty(), "there is nothing to ask for");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Paths { file, token: None })
    }

    /// Asks a service for these paths. What comes before is measured, too, and not told.
    pub async fn run(
        &self,
        contestant: &'static str,
        what: &'static str,
        service: SocketAddr,
        paths: &Paths,
    ) -> Result<Row> {
        if self.strength.warm_up > 0 {
            self.ask(service, paths, self.strength.warm_up).await?;
        }
        let told = self.ask(service, paths, self.strength.seconds).await?;
        let row = Row {
            contestant,
            what,
            connections: self.strength.connections,
            per_second: told.requests as f64 / (told.duration_us / 1e6),
            mean_ms: told.mean_us / 1e3,
            p50_ms: told.p50_us / 1e3,
            p99_ms: told.p99_us / 1e3,
            errors: told.status + told.broken,
        };
        eprintln!("  {row}");
        Ok(row)
    }

    async fn ask(&self, service: SocketAddr, paths: &Paths, seconds: u32) -> Result<Told> {
        let mut wrk = Command::new("wrk");
        wrk.arg(format!("-t{}", self.strength.threads)).arg(format!("-c{}", self.strength.connections));
        wrk.arg(format!("-d{seconds}s")).arg("-s").arg(self.script());
        if let Some(token) = &paths.token {
            wrk.arg("-H").arg(format!("Authorization: Bearer {token}"));
        }
        wrk.arg(format!("http://{service}")).arg("--").arg(&paths.file);
        let output = programs::output("wrk", wrk).await?;
        let told = output.lines().rfind(|line| line.starts_with('{')).context("wrk told nothing")?;
        serde_json::from_str(told).with_context(|| format!("wrk told `{told}`"))
    }
}
