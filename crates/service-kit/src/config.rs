//! Settings that several services have in common; each service flattens them into its own clap struct.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use crate::nats::NatsArgs;

/// Where a service listens, which log it belongs to, and how it writes its log lines.
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    /// Prefix of every stream and subject, so that environments can share a NATS server.
    #[arg(long, env = "HEADWATER_NAMESPACE", default_value = "headwater", value_parser = subject_token)]
    pub namespace: String,

    /// Address at which `/metrics`, `/health/…` and `/version` are served to those who watch the service, apart from
    /// its clients, who then get no `/metrics`. Without it they are served where clients are.
    #[arg(long, env = "HEADWATER_ADMIN_ADDRESS", value_parser = listen_address)]
    pub admin_address: Option<SocketAddr>,

    #[command(flatten)]
    pub nats: NatsArgs,

    /// Format of the log lines on standard error.
    #[arg(long, env = "HEADWATER_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// The address of a service. Its default differs from service to service, hence a function of it.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address; expected like 127.0.0.1:8081"))
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The database of the views.
#[derive(Args, Clone)]
pub struct PostgresArgs {
    /// URL of the Postgres database of the views, e.g. postgres://user:password@host/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
}

impl std::fmt::Debug for PostgresArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresArgs { database_url: <hidden> }")
    }
}

/// What becomes part of stream names and subjects may only hold what both allow.
pub(crate) fn subject_token(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
        return Err("expected 1 to 64 letters, digits, `-` or `_`".into());
    }
    Ok(text.to_owned())
}
