//! `endpoints.json` in the data folder: where everything is, for scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::private_file;

/// The URLs of Postgres and NATS hold passwords, so the file is readable for its owner alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    pub command: String,
    pub query: String,
    pub projector: String,
    pub task_worker: String,
    pub nats: String,
    pub postgres: String,
    pub pids: BTreeMap<String, u32>,
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

    /// What runs where, one line each: name, URL without its secret, pid.
    pub fn table(&self) -> String {
        let rows = [
            ("command-service", self.command.clone()),
            ("query-service", self.query.clone()),
            ("projector", self.projector.clone()),
            ("task-worker", self.task_worker.clone()),
            ("nats-server", without_password(&self.nats)),
            ("postgres", without_password(&self.postgres)),
        ];
        let line = |(name, url): (&str, String)| {
            let pid = self.pids.get(name).map_or("-".to_owned(), u32::to_string);
            format!("  {name:<16} {url:<46} pid {pid}")
        };
        rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
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
    fn the_table_shows_no_password() {
        let endpoints = Endpoints {
            command: "http://127.0.0.1:8081".into(),
            query: "http://127.0.0.1:8082".into(),
            projector: "http://127.0.0.1:8083".into(),
            task_worker: "http://127.0.0.1:8084".into(),
            nats: "nats://admin:secret@127.0.0.1:4222".into(),
            postgres: "postgres://headwater:secret@127.0.0.1:5432/headwater".into(),
            pids: [("postgres".to_owned(), 42)].into(),
        };
        let table = endpoints.table();
        assert!(table.contains("postgres://headwater@127.0.0.1:5432/headwater") && table.contains("pid 42"));
        assert!(!table.contains("secret"));
    }
}
