//! Patience with what should go on but does not: a body that does not come, an answer that is not taken.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::load;

/// Nothing went on for as long as was allowed.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for too long")]
pub struct Stalled;

/// Watches one thing that is polled. Costs nothing while that thing never waits.
pub struct Stall {
    limit: Duration,
    /// Set while the thing waits.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub fn after(limit: Duration) -> Self {
        Self { limit, alarm: None }
    }

    /// Passes on what a poll gave, unless it has been pending for too long.
    pub fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<T>) -> Poll<Result<T, Stalled>> {
        if let Poll::Ready(value) = polled {
            self.alarm = None;
            return Poll::Ready(Ok(value));
        }
        let limit = self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Err(Stalled))
    }
}

/// A request's body that fails when the client sends nothing of it for too long, while it is waited for.
pub struct StallingBody {
    body: Incoming,
    stall: Stall,
    /// Since when the service waits for what comes next.
    waiting: Option<Instant>,
}

impl StallingBody {
    pub fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, stall: Stall::after(limit), waiting: None }
    }
}

impl HttpBody for StallingBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // Once the body was asked for a frame, hyper fetches it whether it is asked again or not. So time that
        // the service does not ask in is never counted as the client's.
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(watched) = self.stall.watch(context, polled) else {
            self.waiting.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        // A client that is slow at sending does not make the service slow.
        if let Some(since) = self.waiting.take() {
            load::add_uncounted(since.elapsed());
        }
        match watched {
            Ok(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Err(stalled) => Poll::Ready(Some(Err(stalled.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn what_waits_for_too_long_has_stalled() {
        let mut stall = Stall::after(LIMIT);
        assert!(poll_fn(|context| stall.watch(context, Poll::<()>::Pending)).await.is_err());
    }

    #[tokio::test]
    async fn what_is_ready_has_not_stalled_however_late_it_is_asked() {
        let mut stall = Stall::after(LIMIT);
        for _ in 0..2 {
            let waiting = poll_fn(|context| stall.watch(context, Poll::<()>::Pending)).now_or_never();
            assert!(waiting.is_none());
            sleep(LIMIT * 2).await;
            assert!(poll_fn(|context| stall.watch(context, Poll::Ready(()))).await.is_ok());
        }
    }
}
