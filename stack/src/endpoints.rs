//! `endpoints.json` in the data folder: where everything is, for scripts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::private_file;

/// The URLs of Postgres and NATS hold passwords, so the file is readable for its owner alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// Where clients send commands to: a service, or the edge's path for it.
    pub command: String,
    /// Where clients send queries to.
    pub query: String,
    /// The first projector.
    pub projector: String,
    /// The first task-worker; empty until it has started.
    pub task_worker: String,
    /// All servers, separated by commas.
    pub nats: String,
    /// The primary.
    pub postgres: String,
    /// Every process.
    pub instances: Vec<Instance>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Of this one alone.
    pub name: String,
    pub program: String,
    pub region: String,
    /// Without any secret.
    pub url: String,
    /// What answers 200 while it is well; `None` where only the process can be looked at.
    pub health_url: Option<String>,
    /// `None` while it is being started again.
    pub pid: Option<u32>,
}

impl Endpoints {
    pub fn read(data: &Path) -> Result<Self> {
        let path = path(data);
        let text = std::fs::read(&path).with_context(|| {
            format!("no stack runs on {}: cannot read {}", data.display(), path.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    pub fn write(&self, data: &Path) -> Result<()> {
        private_file::replace(&path(data), &serde_json::to_vec_pretty(self)?)
    }

    pub fn remove(data: &Path) {
        private_file::remove(&path(data));
    }

    /// The instances of one program.
    pub fn of<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |instance| instance.program == program)
    }

    /// What runs where, one line each.
    pub fn table(&self) -> String {
        let line = |instance: &Instance| {
            let pid = instance.pid.map_or("-".to_owned(), |pid| pid.to_string());
            format!("  {:<20} {:<10} {:<46} pid {pid}", instance.name, instance.region, instance.url)
        };
        self.instances.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("endpoints.json")
}

/// `postgres://user:secret@host/db` without the secret.
pub fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (credentials, place) = rest.split_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}@{place}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let shown = without_password("postgres://headwater:secret@127.0.0.1:5432/headwater");
        assert_eq!(shown, "postgres://headwater@127.0.0.1:5432/headwater");
        assert_eq!(without_password("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
    }
}
