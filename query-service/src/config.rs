//! The settings of the query-service; `--help` is their reference.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser};
use service_kit::config::{PostgresArgs, ServiceArgs, listen_address};

/// Answers queries from the views in Postgres.
#[derive(Clone, Debug, Parser)]
#[command(name = "query-service", version)]
pub struct Config {
    /// Address to listen at.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8082", value_parser = listen_address)]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub service: ServiceArgs,

    #[command(flatten)]
    pub postgres: PostgresArgs,

    #[command(flatten)]
    pub bounds: Bounds,
}

/// Reaching any of these is a clear answer, never a queue without end.
#[derive(Args, Clone, Debug)]
pub struct Bounds {
    /// Connections to Postgres for queries; one more watches the catalog and the checkpoints.
    #[arg(long, env = "HEADWATER_QUERY_POOL_SIZE", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub pool_size: u32,

    /// Queries under way at once; one more is refused with 503 `overloaded`.
    #[arg(long, env = "HEADWATER_QUERY_MAX_IN_FLIGHT", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_in_flight: u32,

    /// Queries that may at once be waiting for a position (`Min-Position`); fewer than --max-in-flight, so
    /// that those who wait leave room for those who do not.
    #[arg(long, env = "HEADWATER_QUERY_MAX_WAITING", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_waiting: u32,

    /// Milliseconds that a query may wait for a connection of the pool.
    #[arg(long, env = "HEADWATER_QUERY_ACQUIRE_TIMEOUT_MS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub acquire_timeout_ms: u64,

    /// Milliseconds that Postgres may take for one statement.
    #[arg(long, env = "HEADWATER_QUERY_STATEMENT_TIMEOUT_MS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub statement_timeout_ms: u64,
}

impl Bounds {
    pub fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }

    pub fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms)
    }
}
