//! The settings of the projector; `--help` is their reference.

use std::net::SocketAddr;

use clap::Parser;
use service_kit::config::{PostgresArgs, ServiceArgs, listen_address};

/// Folds the log into the views in Postgres, and signals what changed.
#[derive(Clone, Debug, Parser)]
#[command(name = "projector", version)]
pub struct Config {
    /// Address to listen at, for health, metrics and the state of the views.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8083", value_parser = listen_address)]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub service: ServiceArgs,

    #[command(flatten)]
    pub postgres: PostgresArgs,
}
