//! Programs that are run to their end for what they use.

use std::fs::{self, File};
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stack::process::{Process, Signal};
use tokio::time::{Instant, sleep};

use crate::processes::{Memory, ProcessorTime};
use crate::rebuild::arena::Own;

const POLL_EVERY: Duration = Duration::from_millis(20);

/// Runs a program from its start to its end; what it says goes into `log`.
pub async fn run(name: &str, mut command: Command, log: &Path) -> Result<Own> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let started = Instant::now();
    let process = Process::spawn(command, Signal::TERM).with_context(|| format!("cannot run {name}"))?;
    let (mut peak_mb, mut processor) = (0.0, Duration::ZERO);
    let mut exited = pin!(process.exited());
    let status = loop {
        tokio::select! {
            status = &mut exited => break status,
            () = sleep(POLL_EVERY) => {}
        }
        // Once it has ended there is nothing to be read any more.
        if let (Ok(memory), Ok(used)) = (Memory::of(process.pid()), ProcessorTime::of(process.pid())) {
            (peak_mb, processor) = (memory.peak_mb, used.total());
        }
    };
    let elapsed = started.elapsed();
    ensure!(status.success(), "{name} failed: {}", fs::read_to_string(log).unwrap_or_default());
    Ok(Own { elapsed, processor, peak_mb: Some(peak_mb) })
}
