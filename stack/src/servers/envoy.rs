//! Envoy at the edge, set up by the repository's own configuration.

mod endpoints;
mod template;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use endpoints::{Upstream, Upstreams};

use super::{STOP_WITHIN, ServerConfig, locate};
use crate::ports;
use crate::process::Signal;
use crate::program::{Program, Running};
use crate::readiness::Readiness;

const CONFIGURATION: &str = include_str!("../../../deploy/edge/envoy.yaml");

pub struct Envoy {
    running: Running,
    port: u16,
    admin: String,
    upstreams: EdgeUpstreams,
    has_tls: bool,
}

/// Tells an edge which services there are.
pub struct EdgeUpstreams {
    folder: PathBuf,
    regions: Vec<String>,
}

impl EdgeUpstreams {
    /// From now on it is these. New ones are sent requests once they have passed their health check, those that are
    /// left out none any more, after a moment.
    pub fn set(&self, upstreams: &Upstreams) -> Result<()> {
        upstreams.write(&self.folder, &self.regions)
    }
}

/// What the edge is told at its start; which services are behind it may change while it runs.
pub struct EdgeConfig {
    pub server: ServerConfig,
    /// All regions. The edge itself stands in the first.
    pub regions: Vec<String>,
    /// The header `x-region` says in which region a client is served first, because a CDN in front has set it.
    pub trusts_region_header: bool,
    /// The folder with `certificate.pem` and `key.pem`, for HTTPS.
    pub tls_folder: Option<PathBuf>,
    pub has_access_log: bool,
    pub connections_max: u32,
    pub requests_per_second: u32,
    pub requests_per_second_of_one: u32,
}

impl EdgeConfig {
    /// Plain HTTP, in the first of the regions, with bounds that only a flood reaches.
    pub fn new(server: ServerConfig, regions: &[&str]) -> Self {
        Self {
            server,
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            trusts_region_header: false,
            tls_folder: None,
            has_access_log: false,
            connections_max: 10_000,
            requests_per_second: 100_000,
            requests_per_second_of_one: 100_000,
        }
    }

    /// The configuration's text for this edge.
    fn fill(&self, text: &str, region: &str, endpoints: &Path, admin_port: u16) -> Result<String> {
        let path = |path: &Path| path.to_str().context("a path is not UTF-8").map(ToOwned::to_owned);
        let regions = self.regions.iter().map(|region| vec![("EACH_REGION", region.clone())]).collect();
        let tls = match &self.tls_folder {
            Some(folder) => vec![vec![("TLS_FOLDER", path(&std::path::absolute(folder)?)?)]],
            None => vec![],
        };
        let access_log = if self.has_access_log { vec![vec![]] } else { vec![] };
        let region_rule =
            if self.trusts_region_header { "ADD_IF_ABSENT" } else { "OVERWRITE_IF_EXISTS_OR_ADD" };
        let values = [
            ("ADMIN_PORT", admin_port.to_string()),
            ("LISTEN_ADDRESS", "127.0.0.1".to_owned()),
            ("LISTEN_PORT", self.server.port.to_string()),
            ("ENDPOINTS", path(endpoints)?),
            ("REGION", region.to_owned()),
            ("REGION_RULE", region_rule.to_owned()),
            ("CONNECTIONS_MAX", self.connections_max.to_string()),
            ("REQUESTS_PER_SECOND", self.requests_per_second.to_string()),
            ("REQUESTS_PER_SECOND_OF_ONE", self.requests_per_second_of_one.to_string()),
        ];
        let blocks = [("region", regions), ("tls", tls), ("access_log", access_log)];
        let blocks = blocks.map(|(name, each)| template::Block { name, each });
        Ok(template::fill(text, &blocks, &values))
    }
}

impl Envoy {
    /// Starts the edge in front of `upstreams`, and waits until it knows which of them are well.
    pub async fn start(config: EdgeConfig, upstreams: &Upstreams) -> Result<Self> {
        Self::start_configured(config, CONFIGURATION, upstreams).await
    }

    /// The same with another configuration than the repository's, which may have the same placeholders.
    pub async fn start_configured(config: EdgeConfig, text: &str, upstreams: &Upstreams) -> Result<Self> {
        let binary = locate::envoy().await?;
        let folder = std::path::absolute(&config.server.folder)?;
        let endpoints = folder.join("endpoints");
        let failed = || format!("cannot write to {}", folder.display());
        fs::create_dir_all(&endpoints).with_context(failed)?;
        let region = config.regions.first().context("an edge stands in a region")?;
        let admin_port = ports::next_free(0)?;
        let configuration = folder.join("envoy.yaml");
        fs::write(&configuration, config.fill(text, region, &endpoints, admin_port)?).with_context(failed)?;
        let told = EdgeUpstreams { folder: endpoints, regions: config.regions };
        told.set(upstreams)?;
        let admin = format!("http://127.0.0.1:{admin_port}");
        let program = Program {
            name: "envoy".to_owned(),
            binary,
            args: vec![
                "--config-path".into(),
                configuration.into(),
                // Several may run on one machine.
                "--disable-hot-restart".into(),
                "--log-level".into(),
                "warning".into(),
            ],
            env: Vec::new(),
            folder: None,
            user: None,
            log: config.server.log,
            readiness: Readiness::Health { url: format!("{admin}/ready") },
            stop_signal: Signal::TERM,
            retry_for: Duration::ZERO,
        };
        Ok(Self {
            running: Running::start(program).await?,
            port: config.server.port,
            admin,
            upstreams: told,
            has_tls: config.tls_folder.is_some(),
        })
    }

    /// From now on these services are behind it, as [`EdgeUpstreams::set`] says.
    pub fn set(&self, upstreams: &Upstreams) -> Result<()> {
        self.upstreams.set(upstreams)
    }

    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Where it tells about itself and takes orders, over HTTP.
    pub fn admin_url(&self) -> &str {
        &self.admin
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits until the edge has ended.
    pub async fn exited(&self) -> ExitStatus {
        self.running.exited().await
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.running.kill().await;
    }

    /// SIGTERM, and SIGKILL to one that does not mind it.
    pub async fn stop(&self) {
        self.running.stop(STOP_WITHIN).await;
    }

    /// Stops the edge if it runs, and starts it on the same port with the same upstreams.
    pub async fn restart(&mut self) -> Result<()> {
        self.running.restart(STOP_WITHIN).await
    }

    pub(crate) fn into_parts(self) -> (Running, EdgeUpstreams) {
        (self.running, self.upstreams)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const README: &str = include_str!("../../../deploy/edge/README.md");

    /// A block of code, of whichever language.
    fn block(number: usize) -> &'static str {
        README.split("```").nth(2 * number + 1).unwrap().split_once('\n').unwrap().1
    }

    #[tokio::test]
    async fn what_the_readme_says_gives_a_configuration_that_envoy_takes() {
        let folder = tempfile::tempdir().unwrap();
        let endpoints = folder.path().join("endpoints");
        fs::create_dir(&endpoints).unwrap();
        fs::write(endpoints.join("commands.yaml"), block(0)).unwrap();
        fs::write(endpoints.join("queries-eu.yaml"), block(1)).unwrap();
        let envoy = locate::envoy().await.unwrap();
        let script = block(2)
            .replace("/etc/envoy", folder.path().to_str().unwrap())
            .replace("envoy --mode", &format!("'{}' --mode", envoy.display()));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/edge");
        let output = Command::new("sh").args(["-ec", &script]).current_dir(here).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
