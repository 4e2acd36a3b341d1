use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use tokio::io::AsyncWriteExt;

use super::MailError;

/// A folder in which each email becomes a file, named by its id: the same email again replaces itself.
pub(super) struct Folder {
    path: PathBuf,
    /// Tells apart the files that are being written.
    next: AtomicU64,
}

impl Folder {
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("emails cannot be kept in {}", path.display()))?;
        Ok(Self { path, next: AtomicU64::default() })
    }

    /// The id was checked: it is no path.
    pub async fn keep(&self, id: &str, message: &[u8]) -> Result<(), MailError> {
        // Written aside first, so that nobody ever sees half an email.
        let aside = format!(".{id}.{}-{}", process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let aside = self.path.join(aside);
        let kept = write(&aside, &self.path.join(format!("{id}.eml")), message).await;
        if let Err(error) = kept {
            // Best effort: the disk is in trouble already.
            let _ = tokio::fs::remove_file(&aside).await;
            return Err(MailError::Unavailable(format!("{}: {error}", self.path.display())));
        }
        Ok(())
    }
}

async fn write(aside: &Path, target: &Path, message: &[u8]) -> io::Result<()> {
    let mut file = tokio::fs::File::create(aside).await?;
    file.write_all(message).await?;
    // An email that counts as sent is to be there after a power cut too.
    file.sync_all().await?;
    tokio::fs::rename(aside, target).await
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files in {}", self.path.display())
    }
}
