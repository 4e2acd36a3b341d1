//! The connection to NATS: where it is, as whom, and how long it is looked for.

mod address;
mod args;

use std::{path::PathBuf, time::Duration};

use async_nats::{Client, ConnectOptions, Event};

pub use address::Unreadable;
pub use args::NatsArgs;

use address::Address;

/// A lost server is tried again this often at the most: quick enough for a restart of the server to be
/// a hiccup, slow enough not to matter to it.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(500);

/// Why there is no connection. Never says a password.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("--nats-url (NATS_URL): {0}")]
    Url(#[from] Unreadable),
    #[error("--nats-password-file (NATS_PASSWORD_FILE): cannot read {path}: {source}")]
    PasswordFile { path: PathBuf, source: std::io::Error },
    #[error(
        "--nats-password-file is the password of a user whom --nats-url has to name, as in nats://projector@host"
    )]
    NoUser,
    #[error("cannot connect to NATS; --nats-url (NATS_URL) says where it is, and as whom to connect")]
    Connect(#[from] async_nats::ConnectError),
}

/// Connects `service`; waits for a server that is not there yet, and comes back to one that went away.
pub async fn connect(server: impl Into<NatsArgs>, service: &str) -> Result<Client, NatsError> {
    let (servers, options) = prepare(&server.into(), service)?;
    Ok(options.retry_on_initial_connect().connect(servers).await?)
}

/// The same for a person, who does not want to wait for a server that is not there.
pub async fn connect_now(server: impl Into<NatsArgs>, service: &str) -> Result<Client, NatsError> {
    let (servers, options) = prepare(&server.into(), service)?;
    Ok(options.connect(servers).await?)
}

fn prepare(args: &NatsArgs, service: &str) -> Result<(Vec<String>, ConnectOptions), NatsError> {
    let Address { servers, user, mut password } = Address::parse(&args.nats_url)?;
    let mut options = ConnectOptions::new()
        .name(service)
        // Answers come to a place of the service's own, where no other user may listen (nats/permissions).
        .custom_inbox_prefix(format!("_INBOX_{service}"))
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis(20).saturating_mul(1 << attempt.min(10)).min(RECONNECT_DELAY_MAX)
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("lost the connection to NATS"),
                // Such as a subject that this user may not publish to: nobody else would say so.
                Event::ServerError(error) => tracing::warn!(%error, "NATS refuses"),
                other => tracing::debug!(event = %other, "NATS"),
            }
        });
    if let Some(path) = &args.nats_password_file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| NatsError::PasswordFile { path: path.clone(), source })?;
        password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    match (user, password) {
        (Some(user), password) => {
            options = options.user_and_password(user, password.unwrap_or_default());
        }
        (None, Some(_)) => return Err(NatsError::NoUser),
        (None, None) => {}
    }
    if let Some(path) = &args.nats_ca_file {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    Ok((servers, options))
}
