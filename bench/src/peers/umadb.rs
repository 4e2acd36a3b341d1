//! UmaDB, an event store for "dynamic consistency boundaries": its server from its own wheel, and a program that
//! appends to it (`bench/peers/umadb`), a closed loop for each connection, as [`crate::load`] does over HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use stack::ports;
use stack::process::{Process, Signal};

use super::packages;
use crate::contestants::Site;
use crate::load::Measured;
use crate::programs;
use crate::requests;

const UMADB: &str = "umadb";
const CLIENT: &str = "umadb-client-loop";
/// What the wheel's script `umadb` does.
const SERVER: &str = "from umadb import umadb_server_cli as server; server.main()";

/// A server that runs. Dropping it stops it.
pub struct UmaDb {
    url: String,
    _server: Process,
}

/// What the client tells in the end.
#[derive(Deserialize)]
struct Told {
    /// Of the appends within the time that is measured.
    latencies_us: Vec<u64>,
    succeeded: u64,
    errors: BTreeMap<String, u64>,
}

pub async fn install() -> Result<()> {
    packages::pip(UMADB).await?;
    packages::cargo(UMADB).await
}

impl UmaDb {
    /// The client waits until it is ready.
    pub async fn start(site: &Site) -> Result<Self> {
        let address = format!("127.0.0.1:{}", ports::next_free(0)?);
        let folder = site.folder_of(UMADB);
        fs::create_dir_all(&folder)?;
        let mut server = Command::new("python3");
        server.args(["-c", SERVER, "--listen", &address, "--db-path"]).arg(folder);
        server.env("PYTHONPATH", packages::installed(UMADB)?);
        let log = fs::File::create(site.log_file(UMADB))?;
        server.stdout(log.try_clone()?).stderr(log);
        let server = Process::spawn(server, Signal::TERM).context("cannot start umadb")?;
        Ok(Self { url: format!("http://{address}"), _server: server })
    }

    /// What `command` appends, over and over.
    pub async fn run(
        &self,
        command: requests::Command,
        connections: usize,
        warm_up: Duration,
        measure: Duration,
    ) -> Result<Measured> {
        let mut client = Command::new(packages::built(UMADB, CLIENT)?);
        client.args([self.url.as_str(), command.name(), &connections.to_string()]);
        client.args([warm_up, measure].map(|time| time.as_secs_f64().to_string()));
        let told = programs::output(CLIENT, client).await?;
        let told: Told = serde_json::from_str(&told).with_context(|| format!("{CLIENT} told no JSON"))?;
        let mut measured = Measured::new(measure)?;
        for latency in told.latencies_us {
            measured.latencies.record(latency)?;
        }
        (measured.succeeded, measured.errors) = (told.succeeded, told.errors);
        Ok(measured)
    }
}
