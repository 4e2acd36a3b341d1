//! Publishes the signals of one view. Publishing never fails a commit: who misses a signal finds out by
//! the chain of positions, or by the silence.

use std::{convert::Infallible, time::Duration};

use async_nats::{Client, HeaderMap, connection::State};
use service_kit::trace::TRACEPARENT;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep_until, timeout},
};

use super::{Change, Signal, subject};
use crate::view::BatchSpans;

const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// A client that cannot take the message at once is disconnected or overwhelmed.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(100);

pub(crate) struct Signaller {
    client: Client,
    subject: String,
    view: &'static str,
    /// Held while publishing, so that positions go out in order.
    last: Mutex<Last>,
}

struct Last {
    term: u64,
    position: u64,
    sent_at: Instant,
}

impl Signaller {
    /// For a view that is at `position`, in the given term.
    pub fn new(client: Client, namespace: &str, view: &'static str, term: u64, position: u64) -> Self {
        let last = Mutex::new(Last { term, position, sent_at: Instant::now() });
        Self { client, subject: subject(namespace, view), view, last }
    }

    /// What was said before no longer counts.
    pub async fn reset(&self) {
        let last = self.last.lock().await;
        self.publish(last, |last| Signal::reset(self.view, last.term, last.position)).await;
    }

    /// A new term has begun; what was said before no longer counts.
    pub async fn begin_term(&self, term: u64) {
        self.last.lock().await.term = term;
        self.reset().await;
    }

    /// The view has moved to `position`, and these rows changed; any row, if they are not named. Each trace that the
    /// batch belongs to goes on with whoever hears it: there may be several such headers.
    pub async fn changed(&self, position: u64, changes: Option<Vec<Change>>, spans: Option<BatchSpans>) {
        let mut last = self.last.lock().await;
        let previous = std::mem::replace(&mut last.position, position);
        let signalling = spans.as_ref().map(|spans| spans.signalling(&self.subject)).unwrap_or_default();
        let mut headers = HeaderMap::new();
        signalling.iter().for_each(|span| headers.append(TRACEPARENT, span.traceparent()));
        let signal = |last: &Last| Signal::changed(self.view, last.term, previous, position, changes);
        self.publish_with(headers, last, signal).await;
    }

    /// Says for ever that the view is alive, whenever nothing else was said for a while.
    pub async fn beat(&self) -> Infallible {
        loop {
            let due = self.last.lock().await.sent_at + HEARTBEAT_EVERY;
            sleep_until(due).await;
            let last = self.last.lock().await;
            if last.sent_at.elapsed() >= HEARTBEAT_EVERY {
                self.publish(last, |last| Signal::heartbeat(self.view, last.term, last.position)).await;
            }
        }
    }

    async fn publish(&self, last: MutexGuard<'_, Last>, signal: impl FnOnce(&Last) -> Signal) {
        self.publish_with(HeaderMap::new(), last, signal).await;
    }

    async fn publish_with(
        &self,
        headers: HeaderMap,
        mut last: MutexGuard<'_, Last>,
        signal: impl FnOnce(&Last) -> Signal,
    ) {
        last.sent_at = Instant::now();
        // A client without a server would keep the message, and send it when it is long out of date.
        if self.client.connection_state() != State::Connected {
            return;
        }
        let payload = signal(&last).encode(self.client.server_info().max_payload / 2);
        let subject = self.subject.clone();
        let publish = async {
            match headers.is_empty() {
                true => self.client.publish(subject, payload.into()).await,
                false => self.client.publish_with_headers(subject, headers, payload.into()).await,
            }
        };
        match timeout(PUBLISH_TIMEOUT, publish).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(view = self.view, %error, "a signal was not sent"),
            Err(_) => tracing::debug!(view = self.view, "a signal was not sent in time"),
        }
    }
}
