//! The servers that the services need, NATS and Postgres, and Envoy in front of them: found or fetched, started on loopback, stopped on drop.
//!
//! ```ignore
//! let folder = servers::temporary_folder()?;
//! let mut nats = Nats::start(ServerConfig::within(folder.path().join("nats"))?).await?;
//! let postgres = Postgres::start(ServerConfig::within(folder.path().join("postgres"))?, &[]).await?;
//! let standby = postgres.standby(ServerConfig::within(folder.path().join("standby"))?).await?;
//! nats.kill().await;
//! nats.restart().await?;
//! ```

mod cache;
mod certificates;
mod cluster;
mod envoy;
pub(crate) mod locate;
mod nats;
mod nats_cluster;
mod nats_files;
mod nats_users;
mod postgres;
mod postgres_users;
pub(crate) mod unprivileged;
mod version;
pub(crate) mod wheel;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use envoy::{EdgeConfig, EdgeUpstreams, Envoy, Upstream, Upstreams};
pub use nats::Nats;
pub use nats_cluster::NatsCluster;
pub use postgres::Postgres;

use crate::ports;

/// How long a server may take to stop before it is killed.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Where a server keeps its data, where it logs, and which port of 127.0.0.1 it listens on.
pub struct ServerConfig {
    pub folder: PathBuf,
    pub log: PathBuf,
    pub port: u16,
}

impl ServerConfig {
    /// Everything within one folder, on any free port.
    pub fn within(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        Ok(Self { log: folder.join("server.log"), folder, port: ports::next_free(0)? })
    }
}

/// 48 hexadecimal digits.
fn random_password() -> Result<String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A temporary folder that the unprivileged user which Postgres runs as can reach, too.
pub fn temporary_folder() -> Result<tempfile::TempDir> {
    let permissions = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new()
        .prefix("headwater-")
        .permissions(permissions)
        .tempdir()
        .context("cannot make a temporary folder")
}
