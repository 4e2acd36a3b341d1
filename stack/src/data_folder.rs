//! The folder with everything that a stack keeps. One stack at a time uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::log_file;
use crate::servers::unprivileged::create_passable;

/// Locked for as long as this lives; the system unlocks it when we die.
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    pub fn lock(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).context("the data folder needs a path")?;
        create_passable(&path)?;
        let failed = || format!("cannot lock the data folder {}", path.display());
        let file = path.join("lock");
        // Not truncated: until we have the lock, what is in it belongs to another.
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(file);
        let mut lock = open.with_context(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                bail!(
                    "another stack (pid {}) uses the data folder {}: stop it, or give this one a folder of its own with --data-dir",
                    pid.trim(),
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        lock.set_len(0).with_context(failed)?;
        writeln!(lock, "{}", std::process::id()).with_context(failed)?;
        Ok(Self { _lock: lock, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// A fresh log for this start; the last start's is kept beside it.
    pub fn fresh_log(&self, name: &str) -> Result<PathBuf> {
        let log = self.logs().join(format!("{name}.log"));
        log_file::rotate(&log)?;
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stack_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::lock(folder.path()).unwrap();
        let error = DataFolder::lock(folder.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("another stack (pid {})", std::process::id())), "{error}");
        drop(first);
        DataFolder::lock(folder.path()).unwrap();
    }
}
