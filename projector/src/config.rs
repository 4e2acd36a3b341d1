//! The settings of the projector; `--help` is their reference.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use domain::view::Definition;
use service_kit::{
    auth::AuthArgs,
    config::{PostgresArgs, ServiceArgs, listen_address},
    http::HttpArgs,
};

use crate::view::UnknownEvents;

/// Folds the log into the views in Postgres, and signals what changed.
#[derive(Clone, Debug, Parser)]
#[command(name = "projector", version)]
pub struct Config {
    /// Address to listen at, for health, metrics, the state of the views and their quarantine.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8083", value_parser = listen_address)]
    pub listen: SocketAddr,

    /// The views to fold, separated by commas; all, if none are named.
    #[arg(long, env = "HEADWATER_VIEWS", value_delimiter = ',', value_name = "VIEW")]
    pub views: Vec<String>,

    /// A view that has made no progress for so long, while events wait, makes `/health/ready` fail: in seconds.
    #[arg(long, env = "HEADWATER_STALL_SECONDS", default_value = "30", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stall_seconds: u64,

    #[command(flatten)]
    pub events: EventArgs,

    #[command(flatten)]
    pub service: ServiceArgs,

    #[command(flatten)]
    pub postgres: PostgresArgs,

    #[command(flatten)]
    pub http: HttpArgs,

    #[command(flatten)]
    pub auth: AuthArgs,
}

/// How events are read.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct EventArgs {
    /// What becomes of events of a type that this program does not know.
    #[arg(long, env = "HEADWATER_UNKNOWN_EVENTS", default_value = "quarantine")]
    pub unknown_events: UnknownEvents,
}

impl Config {
    pub fn stalled_after(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    /// Those of `all` that are to be folded.
    pub fn chosen(&self, all: &'static [Definition]) -> anyhow::Result<Vec<&'static Definition>> {
        if self.views.is_empty() {
            return Ok(all.iter().collect());
        }
        self.views.iter().map(|name| find(all, name)).collect()
    }
}

/// The view of that name.
pub fn find(all: &'static [Definition], name: &str) -> anyhow::Result<&'static Definition> {
    let names = || all.iter().map(|view| view.name).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|view| view.name == name.trim());
    found.ok_or_else(|| anyhow::anyhow!("there is no view `{name}`; there are {}", names()))
}
