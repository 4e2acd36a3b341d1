//! Programs that are run to their end for what they tell.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use stack::process::{Process, Signal, describe};

/// What the program writes to its standard output. It is stopped when we are.
pub async fn output(name: &str, mut command: Command) -> Result<String> {
    let (output, errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
    let process = Process::spawn(command, Signal::TERM).with_context(|| format!("cannot run {name}"))?;
    let status = process.exited().await;
    let output = text(output)?;
    ensure!(status.success(), "{name} failed ({}): {output}{}", describe(status), text(errors)?);
    Ok(output)
}

fn text(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
