//! Listens to what the projector says after each commit. Signals make answers quick, never wrong: the read path
//! works without NATS, only without a cache.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, Message};
use futures::StreamExt;
use serde::Deserialize;
use service_kit::{
    Shutdown,
    trace::{self, SPANS_TOGETHER_MAX, Span, SpanKind},
};
use tokio::sync::{Notify, watch};

use crate::{
    coherence::{Change, Heard, News, Touched},
    positions::Positions,
    served::Served,
    watcher::Known,
};

const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A view's rows changed, or (with nothing new) its projector is alive. There may be more in a signal than is read
/// here; unknown members are ignored.
#[derive(Debug, Deserialize)]
struct Signal {
    view: String,
    term: u64,
    previous: u64,
    position: u64,
    /// What was known about the view no longer counts.
    #[serde(default)]
    reset: bool,
    /// Absent if any row may have changed.
    changes: Option<Vec<Change>>,
}

pub struct Listener {
    pub client: Client,
    pub namespace: String,
    pub known: watch::Receiver<Known>,
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
        let mut signals = self.client.subscribe(format!("{}.signals.*", self.namespace)).await?;
        while let Some(message) = signals.next().await {
            match serde_json::from_slice(&message.payload) {
                Ok(signal) => {
                    let _spans = spans(&message);
                    self.hear(&signal);
                }
                Err(error) => {
                    tracing::warn!(subject = %message.subject, %error, "a signal cannot be understood");
                }
            }
        }
        Ok(())
    }

    fn hear(&self, signal: &Signal) {
        let served = self.known.borrow().views.get(signal.view.as_str()).cloned();
        let Some(served) = served else { return };
        let heard = served.coherence.hear(&news(&served, signal), Instant::now());
        // Positions are counted as Postgres does.
        let position = signal.position.cast_signed();
        match heard {
            Heard::Late => return,
            Heard::InOrder => self.positions.advance(&signal.view, position),
            Heard::Anew => self.positions.reset(&signal.view, position),
        }
        if signal.reset {
            self.reload.notify_one();
        }
    }
}

/// One in each of the traces that the signal belongs to.
fn spans(message: &Message) -> Vec<Span> {
    let contexts = message.headers.iter().flat_map(|headers| headers.get_all(trace::TRACEPARENT));
    let span = |context: &str| {
        let context = trace::sampled(Some(context))?;
        let span = Span::after(&context, SpanKind::Consumer, format!("invalidate {}", message.subject))?;
        span.messaging("invalidate", "process", message.subject.to_string());
        Some(span)
    };
    contexts.take(SPANS_TOGETHER_MAX).filter_map(|context| span(context.as_str())).collect()
}

fn news(served: &Served, signal: &Signal) -> News {
    let Signal { term, previous, position, reset, changes, .. } = signal;
    let touched = match changes {
        Some(changes) => served.tags.touched(&served.view, changes),
        None => Touched::Everything,
    };
    News { term: *term, previous: *previous, position: *position, reset: *reset, touched }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_without_named_changes_may_have_changed_anything() {
        let text =
            r#"{"view":"accounts","term":3,"previous":120,"position":125,"changes":null,"everything":true}"#;
        let signal: Signal = serde_json::from_str(text).expect("a signal");
        assert!(signal.changes.is_none() && !signal.reset);
        assert_eq!((signal.term, signal.previous, signal.position), (3, 120, 125));
    }
}
