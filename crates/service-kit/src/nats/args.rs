use std::{fmt, path::PathBuf};

use clap::Args;

/// Where NATS is, and as whom to connect.
#[derive(Args, Clone)]
pub struct NatsArgs {
    /// URL of the NATS server, or several separated by commas, e.g. nats://user:password@host:4222. Special characters
    /// of a password are written %40.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", hide_env_values = true)]
    pub nats_url: String,

    /// File with the password of the user whom the URL names, instead of a password in the URL. Read at the start.
    #[arg(long, env = "NATS_PASSWORD_FILE")]
    pub nats_password_file: Option<PathBuf>,

    /// File with the certificates (PEM) that the server's must be signed by; without them no connection is made
    /// that is not encrypted. A URL of tls://host does the same with the authorities of the system.
    #[arg(long, env = "NATS_CA_FILE")]
    pub nats_ca_file: Option<PathBuf>,
}

/// Without the URL, which may hold a password.
impl fmt::Debug for NatsArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsArgs")
            .field("nats_password_file", &self.nats_password_file)
            .field("nats_ca_file", &self.nats_ca_file)
            .finish_non_exhaustive()
    }
}

impl From<&str> for NatsArgs {
    fn from(url: &str) -> Self {
        Self { nats_url: url.to_owned(), nats_password_file: None, nats_ca_file: None }
    }
}

impl From<&String> for NatsArgs {
    fn from(url: &String) -> Self {
        url.as_str().into()
    }
}

impl From<&NatsArgs> for NatsArgs {
    fn from(args: &NatsArgs) -> Self {
        args.clone()
    }
}
