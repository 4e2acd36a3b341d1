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
    use arbtest::arbitrary::{self, Unstructured};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        catalog::tests::orders,
        coherence::{Coherence, Tags},
    };

    #[test]
    fn a_signal_without_named_changes_may_have_changed_anything() {
        let text =
            r#"{"view":"accounts","term":3,"previous":120,"position":125,"changes":null,"everything":true}"#;
        let signal: Signal = serde_json::from_str(text).expect("a signal");
        assert!(signal.changes.is_none() && !signal.reset);
        assert_eq!((signal.term, signal.previous, signal.position), (3, 120, 125));
    }

    /// A value such as a signal tells of a row, or such as it never should.
    fn any_value(chance: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
        Ok(match chance.int_in_range(0..=4)? {
            0 => Value::Null,
            1 => json!(chance.arbitrary::<u64>()?),
            2 => json!({"deeper": chance.arbitrary::<f64>()?}),
            3 => json!("0192d3a4-5b6c-7d8e-9f00-112233445566"),
            _ => json!(chance.arbitrary::<&str>()?),
        })
    }

    fn any_row(chance: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
        let mut row = serde_json::Map::new();
        for column in ["account_id", "status", "placed_at", "reason"] {
            if chance.ratio(4, 5)? {
                row.insert(column.to_owned(), any_value(chance)?);
            }
        }
        Ok(row.into())
    }

    #[test]
    fn whatever_is_said_is_taken_in_or_refused_and_nothing_known_goes_back() {
        let (view, tags) = (orders(), Tags::of(&orders()));
        arbtest::arbtest(|chance| {
            let (coherence, now) = (Coherence::new(), Instant::now());
            for _ in 0..chance.int_in_range(1..=6)? {
                let numbers = [0, 1, 7, u64::MAX, chance.arbitrary()?];
                let change =
                    json!({"key": any_value(chance)?, "old": any_row(chance)?, "new": any_row(chance)?});
                let mut said = json!({"view": "orders", "term": chance.choose(&numbers)?,
                    "previous": chance.choose(&numbers)?, "position": chance.choose(&numbers)?,
                    "changes": [change]})
                .to_string()
                .into_bytes();
                if chance.ratio(1, 4)? {
                    let at = chance.choose_index(said.len())?;
                    said[at] = chance.arbitrary()?;
                }
                let Ok(signal) = serde_json::from_slice::<Signal>(&said) else { continue };
                let (Signal { term, previous, position, reset, .. }, before) =
                    (&signal, coherence.timeline());
                let touched = match &signal.changes {
                    Some(changes) => tags.touched(&view, changes),
                    None => Touched::Everything,
                };
                let news =
                    News { term: *term, previous: *previous, position: *position, reset: *reset, touched };
                let heard = coherence.hear(&news, now);
                let after = coherence.timeline();
                assert!(after.term() >= before.term(), "{signal:?}");
                assert!(heard == Heard::Anew || after.seen() >= before.seen(), "{signal:?}");
                let read_at = *chance.choose(&numbers)?;
                assert!(after.reflects(read_at, &[], now).is_none_or(|position| position >= read_at));
            }
            Ok(())
        });
    }
}
