//! The settings of the query-service; `--help` is their reference.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser};
use service_kit::{
    auth::AuthArgs,
    config::{PostgresArgs, ServiceArgs, listen_address},
    http::HttpArgs,
    load::LoadArgs,
};

use crate::freshness::WAIT_MAX_S;

/// Answers queries from the views in Postgres.
#[derive(Clone, Debug, Parser)]
#[command(name = "query-service", version, mut_arg("p99_target_ms", |arg| arg.default_value("50")))]
pub struct Config {
    /// Address to listen at.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8082", value_parser = listen_address)]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub service: ServiceArgs,

    #[command(flatten)]
    pub postgres: PostgresArgs,

    /// URL of a standby of that database, which is asked first; what it cannot show yet is read from the database
    /// itself.
    #[arg(long, env = "HEADWATER_STANDBY_URL", hide_env_values = true, value_name = "URL")]
    pub standby_url: Option<String>,

    /// MiB of rows and lists to keep in memory; 0: keep none.
    #[arg(long, env = "HEADWATER_QUERY_CACHE_MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub cache_mib: u64,

    #[command(flatten)]
    pub bounds: Bounds,

    #[command(flatten)]
    pub http: HttpArgs,

    #[command(flatten)]
    pub auth: AuthArgs,

    #[command(flatten)]
    pub load: LoadArgs,
}

impl Config {
    /// A query that may wait must not be cut off while it does: the bound on the time to an answer has to be
    /// longer than everything that bounds a query from within.
    pub fn check(&self) -> anyhow::Result<()> {
        let longest =
            Duration::from_secs(WAIT_MAX_S) + self.bounds.acquire_timeout() + self.bounds.statement_timeout();
        anyhow::ensure!(
            self.http.answer_timeout() > longest,
            "--http-answer-timeout-ms must be more than {}: a query may wait {WAIT_MAX_S} s for its position, \
             then for a connection, then for its statement",
            longest.as_millis()
        );
        Ok(())
    }
}

impl Config {
    pub fn cache_bytes(&self) -> u64 {
        self.cache_mib * 1024 * 1024
    }
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

    /// Event streams (`Accept: text/event-stream`) open at once; one more is refused with 503 `overloaded`.
    #[arg(long, env = "HEADWATER_QUERY_MAX_LIVE", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_live: u32,

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str]) -> anyhow::Result<()> {
        let flags = ["query-service", "--database-url", "postgres:///views"].iter().chain(flags);
        Config::try_parse_from(flags)?.check()
    }

    #[test]
    fn the_default_leaves_time_for_the_longest_wait() {
        assert!(check(&[]).is_ok());
    }

    #[test]
    fn no_query_may_be_cut_off_while_it_waits_for_its_position() {
        assert!(check(&["--http-answer-timeout-ms", "31000"]).is_err());
        assert!(check(&["--statement-timeout-ms", "40000"]).is_err());
        assert!(check(&["--statement-timeout-ms", "40000", "--http-answer-timeout-ms", "80000"]).is_ok());
    }
}
