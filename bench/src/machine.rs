//! Where and when something was measured: figures mean nothing without it.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

const FSYNCS: usize = 200;

#[derive(Serialize)]
pub struct Machine {
    pub date: String,
    pub commit: String,
    pub cores: usize,
    pub processor: String,
    pub memory_gb: u64,
    pub kernel: String,
    pub nats_server: String,
    /// Runnable processes over the last minute before the benchmark: more than a little, and somebody else
    /// was measured, too.
    pub load_before: f64,
    /// Appending 512 bytes to a file and syncing it: what the disk beneath allows.
    pub fsync_p50_ms: f64,
}

impl Machine {
    /// This machine, with the version of its nats-server and a disk that `folder` is on.
    pub fn examine(nats_server: &str, folder: &Path) -> Result<Self> {
        let proc = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let memory_kb = field(&proc("meminfo"), "MemTotal");
        let memory_kb: u64 = memory_kb.trim_end_matches(" kB").parse().unwrap_or_default();
        let load = proc("loadavg");
        Ok(Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            cores: proc("cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
            processor: field(&proc("cpuinfo"), "model name"),
            memory_gb: memory_kb.div_ceil(1024 * 1024),
            kernel: proc("sys/kernel/osrelease").trim().to_owned(),
            nats_server: nats_server.to_owned(),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            fsync_p50_ms: fsync_p50_ms(folder).context("cannot measure the disk")?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, commit, cores, processor, memory_gb, kernel, nats_server, .. } = self;
        writeln!(f, "{date}, commit {commit}, nats-server {nats_server}")?;
        writeln!(f, "{cores} cores ({processor}), {memory_gb} GB, Linux {kernel}")?;
        write!(f, "load before: {:.2}; fsync p50: {:.3} ms", self.load_before, self.fsync_p50_ms)
    }
}

/// The commit that is checked out where this program was built, and whether there is more than it.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn fsync_p50_ms(folder: &Path) -> std::io::Result<f64> {
    let path = folder.join("fsync");
    let mut file = File::create(&path)?;
    let mut took = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        let start = Instant::now();
        file.write_all(&[0; 512])?;
        file.sync_all()?;
        took.push(start.elapsed());
    }
    fs::remove_file(path)?;
    took.sort();
    Ok(took[FSYNCS / 2].as_secs_f64() * 1000.0)
}
