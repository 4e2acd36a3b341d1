//! The connection to NATS.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};

/// A lost server is tried again this often at the most: quick enough for a restart of the server to be
/// a hiccup, slow enough not to matter to it.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(500);

/// Connects under the name `service`; waits for a server that is not there yet, and comes back to one
/// that went away.
pub async fn connect(url: &str, service: &str) -> Result<Client, async_nats::ConnectError> {
    ConnectOptions::new()
        .name(service)
        .retry_on_initial_connect()
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis(20).saturating_mul(1 << attempt.min(10)).min(RECONNECT_DELAY_MAX)
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("lost the connection to NATS"),
                other => tracing::debug!(event = %other, "NATS"),
            }
        })
        .connect(servers(url))
        .await
}

fn servers(url: &str) -> Vec<String> {
    url.split(',').map(|server| server.trim().to_owned()).collect()
}
