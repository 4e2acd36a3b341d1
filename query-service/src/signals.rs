//! Listens to what the projector says after each commit. Signals make answers quick, never right: the read
//! path works without NATS, only a little later.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use serde::Deserialize;
use service_kit::{Shutdown, config::ServiceArgs};
use tokio::sync::Notify;

use crate::positions::Positions;

const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A view's rows changed, or (with nothing new) its projector is alive. There is more in a signal than is
/// read here; unknown members are ignored.
#[derive(Debug, Deserialize)]
struct Signal {
    view: String,
    position: i64,
    /// The view was switched or taken over: what was known about it no longer counts.
    #[serde(default)]
    reset: bool,
}

pub struct Listener {
    pub service: ServiceArgs,
    pub positions: Arc<Positions>,
    /// Asks for the catalog to be read again.
    pub reload: Arc<Notify>,
}

impl Listener {
    /// Listens until `shutdown`, through any absence of NATS.
    pub async fn run(self, shutdown: Shutdown) {
        let listening = async {
            loop {
                if let Err(error) = self.listen().await {
                    tracing::warn!(%error, "cannot listen to signals");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Returns when the subscription ends, which it does not while the client reconnects by itself.
    async fn listen(&self) -> anyhow::Result<()> {
        let client = service_kit::nats::connect(&self.service.nats_url, "query-service").await?;
        let mut signals = client.subscribe(format!("{}.signals.*", self.service.namespace)).await?;
        while let Some(message) = signals.next().await {
            match serde_json::from_slice(&message.payload) {
                Ok(signal) => self.hear(signal),
                Err(error) => {
                    tracing::warn!(subject = %message.subject, %error, "a signal cannot be understood");
                }
            }
        }
        Ok(())
    }

    fn hear(&self, signal: Signal) {
        if signal.reset {
            self.positions.reset(&signal.view, signal.position);
            self.reload.notify_one();
        } else {
            self.positions.advance(&signal.view, signal.position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_for_its_position_whatever_else_it_says() {
        let text = r#"{"view":"accounts","previous":120,"position":125,"changes":null,"everything":true}"#;
        let signal: Signal = serde_json::from_str(text).expect("a signal");
        assert_eq!((signal.view.as_str(), signal.position, signal.reset), ("accounts", 125, false));
    }
}
