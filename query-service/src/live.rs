//! `Accept: text/event-stream` (WHATWG HTML §9.2): a row or a list as it is now, and again whenever it changes.
//!
//! Each event holds the whole state, so nothing is ever kept for a client that reads slowly: the next event it takes
//! is the state of then, however many there were in between. All streams of one row or list share the cache's reads.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::sse::Event,
};
use futures::{Stream, stream};
use service_kit::{Problem, auth::Caller};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    cache::ETag,
    freshness::{Freshness, WAIT_DEFAULT_S},
    plan::Plan,
    reader::{Answer, Reader},
    served::Served,
};

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A stream looks at its state at most so often while its view is written to all the time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same while no signals arrive, when each look is a read of the database.
const LOOK_EVERY_WITHOUT_SIGNALS: Duration = Duration::from_secs(1);
/// Something is sent at least so often, so that a dead peer is noticed, and no proxy takes the silence for one.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// A client whose stream has ended should come back after this.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Whether the client asks for a stream.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|list| list.split(',')).map(|range| range.split(';').next().unwrap_or(range));
    types.any(|media_type| media_type.trim().eq_ignore_ascii_case(EVENT_STREAM))
}

/// What a client has seen last: the id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EventId {
    position: u64,
    etag: ETag,
}

impl EventId {
    fn of(answer: &Answer) -> Self {
        Self { position: answer.position, etag: answer.entry.etag }
    }

    /// An id that is not one of ours is as good as none.
    fn last(headers: &HeaderMap) -> Option<Self> {
        let (position, etag) = headers.get(LAST_EVENT_ID)?.to_str().ok()?.split_once('-')?;
        Some(Self { position: position.parse().ok()?, etag: ETag::parse(etag)? })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.position, self.etag.digits())
    }
}

/// Asks for the same again and again.
pub type PlanAgain = Box<dyn Fn(Arc<Served>) -> Result<Plan, Problem> + Send + Sync>;

/// A stream of states.
pub struct Live {
    reader: Reader,
    view: String,
    plan: PlanAgain,
    moved: watch::Receiver<i64>,
    state: Answer,
    sent: Option<EventId>,
    looked_at: Instant,
    /// The view has moved since the last look.
    is_due: bool,
    has_failed: bool,
    /// Its place among the streams.
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// Finds the first state. A client that comes back never gets one from before what it has seen.
    pub async fn begin(
        reader: Reader,
        view: String,
        plan: PlanAgain,
        headers: &HeaderMap,
        freshness: Option<Freshness>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Problem> {
        let sent = EventId::last(headers);
        let seen = sent.map(|sent| not_before(sent.position));
        let freshness = freshness.into_iter().chain(seen).max_by_key(|freshness| freshness.position);
        let moved = reader.positions.follow(&view).unwrap_or_else(|| watch::channel(0).1);
        let state = reader.answer(&view, freshness, &plan).await?;
        let looked_at = Instant::now();
        let (is_due, has_failed) = (true, false);
        let live =
            Self { reader, view, plan, moved, state, sent, looked_at, is_due, has_failed, _place: place };
        Ok(live)
    }

    /// What the next event, if there is one at once, holds.
    pub fn state(&self) -> &Answer {
        &self.state
    }

    /// The events, until the service stops or the caller's token expires. The client may then go on elsewhere, or
    /// with a new token.
    pub fn events(self, caller: Caller) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold((self, caller), |(mut live, caller)| async move {
            let event = tokio::select! {
                biased;
                () = caller.expired() => return None,
                event = live.next() => event?,
            };
            Some((Ok(event.retry(RECONNECT_AFTER)), (live, caller)))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        let heartbeat = Instant::now() + HEARTBEAT_EVERY;
        let shutdown = self.reader.shutdown.clone();
        loop {
            let id = EventId::of(&self.state);
            if self.sent.is_none_or(|sent| sent.etag != id.etag) {
                self.sent = Some(id);
                return Some(event(&self.state, id));
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                changed = self.change() => match changed {
                    Ok(answer) => self.state = answer,
                    Err(problem) => return Some(trouble(&problem)),
                },
                () = sleep_until(heartbeat) => return Some(self.heartbeat()),
            }
        }
    }

    /// Waits until the view has moved, and reads again. May be dropped at any time.
    async fn change(&mut self) -> Result<Answer, Problem> {
        if !self.is_due {
            if self.moved.changed().await.is_err() {
                // The view is not in the catalog any more; perhaps it is back.
                sleep(LOOK_EVERY_WITHOUT_SIGNALS).await;
                self.moved = self.reader.positions.follow(&self.view).unwrap_or_else(|| watch::channel(0).1);
            }
            self.is_due = true;
        }
        let is_quick = !self.has_failed && self.reader.hears(&self.view);
        sleep_until(self.looked_at + if is_quick { LOOK_EVERY } else { LOOK_EVERY_WITHOUT_SIGNALS }).await;
        self.looked_at = Instant::now();
        // Mostly a look into the cache. The state never goes back.
        let answer = self.reader.answer(&self.view, Some(not_before(self.state.position)), &self.plan).await;
        self.has_failed = answer.is_err();
        // The view may be known to have moved before the cache has heard of it.
        let moved_to = self.moved.borrow().cast_unsigned();
        self.is_due = !answer.as_ref().is_ok_and(|answer| answer.position >= moved_to);
        answer
    }

    fn heartbeat(&self) -> Event {
        Event::default().comment(format!("position {}", self.state.position))
    }
}

fn not_before(position: u64) -> Freshness {
    let position = i64::try_from(position).unwrap_or(i64::MAX);
    Freshness { position, wait: Duration::from_secs(WAIT_DEFAULT_S) }
}

fn event(state: &Answer, id: EventId) -> Event {
    let event = Event::default().id(id.to_string());
    match state.entry.body.as_deref() {
        // What Postgres writes is UTF-8, and JSON has no line breaks but in the places where it may be written anew.
        Some(body) => event.event("state").data(String::from_utf8_lossy(body)),
        None => event.event("gone").data("null"),
    }
}

/// The stream goes on: what is wrong may pass.
fn trouble(problem: &Problem) -> Event {
    let event = Event::default().event("problem");
    event.json_data(problem).unwrap_or_else(|_| Event::default().event("problem").data("null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a header value"))])
    }

    #[test]
    fn a_stream_is_asked_for_by_its_media_type() {
        for accept in ["text/event-stream", "Text/Event-Stream; q=0.9", "application/json, text/event-stream"]
        {
            assert!(is_asked_for(&headers(header::ACCEPT, accept)), "{accept}");
        }
        for accept in ["*/*", "text/*", "application/json", ""] {
            assert!(!is_asked_for(&headers(header::ACCEPT, accept)), "{accept}");
        }
    }

    #[test]
    fn an_event_id_is_read_as_it_is_written() {
        let id = EventId { position: 125, etag: ETag::of(b"{}") };
        let written: &'static str = Box::leak(id.to_string().into_boxed_str());
        assert_eq!(EventId::last(&headers(LAST_EVENT_ID, written)), Some(id));
    }

    #[test]
    fn an_id_of_somebody_else_is_none() {
        for id in ["", "125", "125-", "-1a", "125-xyz", "99999999999999999999-0000000000000000"] {
            assert_eq!(EventId::last(&headers(LAST_EVENT_ID, id)), None, "{id}");
        }
    }
}
