//! Small files that hold secrets, or that a reader must never see half written.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes a file readable for its owner alone; a reader sees all of it or what was there before.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        // A temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file if it is there.
pub fn remove(path: &Path) {
    // A file that stays says something that was true; the next start replaces it.
    let _ = fs::remove_file(path);
}
