//! A folder and everything below it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// `st_blocks` counts in these, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// What it takes on disk; nothing, if it does not exist.
pub fn bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in files(folder)? {
        bytes += file.metadata()?.blocks() * BLOCK_BYTES;
    }
    Ok(bytes)
}

/// Has its files read from the disk again. Pages that a process has mapped stay.
pub fn drop_from_page_cache(folder: &Path) -> io::Result<()> {
    for file in files(folder)? {
        let file = File::open(file)?;
        // Only what is on disk already can be dropped.
        file.sync_all()?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    Ok(files)
}
