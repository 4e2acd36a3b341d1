//! What JetStream alone takes: one client that publishes durable messages one after the other.

use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream;
use tokio::time::Instant;

use crate::load::Measured;

/// As large as a frame with one registration.
const PAYLOAD_BYTES: usize = 512;

/// Publishes to the stream `bare` for `warm_up` and `measure`, each message once the one before is durable.
pub async fn publish(
    jetstream: &jetstream::Context,
    warm_up: Duration,
    measure: Duration,
) -> Result<Measured> {
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let begin = Instant::now() + warm_up;
    let end = begin + measure;
    let mut measured = Measured::new(Duration::ZERO)?;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(measured);
        }
        jetstream.publish("bare.0", payload.clone().into()).await?.await?;
        if sent >= begin {
            measured.took(sent.elapsed())?;
        }
    }
}
