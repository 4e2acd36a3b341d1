//! Where fetched servers are kept, shared by every stack and every test of this user.

use std::env;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::unprivileged::{User, create_passable};
use crate::screen;

/// Used by root when its own cache is out of the reach of the user that Postgres runs as.
const REACHABLE: &str = "/var/cache/headwater";

/// The cache folder, made if it is missing.
pub fn folder() -> Result<PathBuf> {
    let wanted = wanted().context("no place for fetched servers: set HEADWATER_CACHE to a folder")?;
    let folder = match User::instead_of_root()? {
        Some(user) if !user.reaches(&wanted) => REACHABLE.into(),
        _ => wanted,
    };
    create_passable(&folder)?;
    Ok(folder)
}

/// Waits until nobody else fetches `what`, and keeps others from it until the file is dropped.
pub async fn lock(folder: &Path, what: &str) -> Result<File> {
    let path = folder.join(format!("{what}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if !told => {
                told = true;
                screen::say(format!("{what} is being fetched by another process; waiting for it"));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// Says, once, that the cache is not where it was asked for. Called when there is something to fetch.
pub fn explain(folder: &Path) {
    if wanted().is_some_and(|wanted| wanted != folder) {
        screen::say(format!("fetched servers go to {}: Postgres cannot run as root", folder.display()));
    }
}

fn wanted() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = variable("HEADWATER_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("headwater")))
        .or_else(|| Some(variable("HOME")?.join(".cache/headwater")))?;
    // Relative to where we are now; children run elsewhere.
    std::path::absolute(path).ok()
}
