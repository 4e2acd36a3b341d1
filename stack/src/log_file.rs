//! The files that children log to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result};

/// What of a log is shown when something went wrong.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8 * 1024;

/// Opens a log for appending; also tells where what comes now begins.
pub fn append(path: &Path) -> Result<(File, u64)> {
    let open = || -> io::Result<(File, u64)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    open().with_context(|| format!("cannot write the log {}", path.display()))
}

/// Sets the log of the last start aside as `<name>.log.old`, in place of the one before.
pub fn rotate(path: &Path) -> Result<()> {
    match fs::rename(path, path.with_extension("log.old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot set the old log {} aside", path.display()))
        }
        _ => Ok(()),
    }
}

/// The last lines written after `start`, indented for showing below a message.
pub fn tail(path: &Path, start: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if shown.is_empty() {
        return format!("    (nothing; see {})", path.display());
    }
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_the_start_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        fs::write(&log, "before\n").unwrap();
        let (_, start) = append(&log).unwrap();
        fs::write(&log, "before\nafter\n").unwrap();
        assert_eq!(tail(&log, start), "    after");
    }

    #[test]
    fn one_old_log_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        for text in ["first", "second"] {
            fs::write(&log, text).unwrap();
            rotate(&log).unwrap();
        }
        rotate(&log).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a.log.old")).unwrap(), "second");
        assert!(!log.exists());
    }
}
