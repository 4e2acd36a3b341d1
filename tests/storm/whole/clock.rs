//! The wall clock of one process, which can be wrong.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{instance::Settings, issuer};

/// What a process is started with, so that its clock can be moved while it runs.
pub struct Clock {
    path: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// One that is right, in a file of this name.
    pub fn new(library: &Path, path: PathBuf) -> Self {
        fs::write(&path, [0; 8]).unwrap();
        Self { path, library: library.to_owned() }
    }

    pub fn settings(&self) -> Settings {
        vec![("LD_PRELOAD", (&self.library).into()), ("STORM_CLOCK", (&self.path).into())]
    }

    /// From now on it is ahead by so many seconds, or behind.
    pub fn skew(&self, seconds: i64) {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), 0).unwrap();
    }
}

/// Builds what moves clocks, with the compiler that cargo links with.
pub fn library(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("storm/whole/clock.c");
    let library = folder.join("clock.so");
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(status.unwrap().success());
    library
}

#[test]
fn a_process_has_another_time_than_everybody_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(&library(folder.path()), folder.path().join("clock"));
    clock.skew(-3_600);
    let mut python = Command::new("python3");
    python.args(["-c", "import time; print(int(time.time()))"]).envs(clock.settings());
    let before = issuer::now();
    let output = String::from_utf8(python.output().unwrap().stdout).unwrap();
    let theirs = output.trim().parse::<u64>().unwrap() + 3_600;
    assert!((before..=issuer::now()).contains(&theirs), "{theirs}, but it was {before}");
}
