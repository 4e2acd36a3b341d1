//! The requests that are under way, and what became of those that were. Each costs some additions and two looks at
//! the clock; nothing here waits for a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use axum::response::Response;

use super::{latencies::Latencies, uncounted};
use crate::problem::{Kind, kinds::OVERLOADED};

pub struct Requests {
    under_way: AtomicU64,
    /// The most that were under way at once, since somebody asked.
    most: AtomicU64,
    pub shed: AtomicU64,
    pub latencies: Latencies,
}

impl Requests {
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { under_way: zero(), most: zero(), shed: zero(), latencies: Latencies::new() }
    }

    /// Counts a request until its answer begins, or until its client is gone and this is dropped.
    pub async fn measure(&self, answering: impl Future<Output = Response>) -> Response {
        let _under_way = UnderWay::begin(self);
        let arrived = Instant::now();
        let (answer, uncounted) = uncounted::summed(answering).await;
        self.latencies.count(arrived.elapsed().saturating_sub(uncounted));
        if is_shed(&answer) {
            self.shed.fetch_add(1, Relaxed);
        }
        answer
    }

    /// The most that were under way at once since this was asked last.
    pub fn take_most(&self) -> u64 {
        let now = self.under_way.load(Relaxed);
        self.most.swap(now, Relaxed).max(now)
    }
}

struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn begin(requests: &'a Requests) -> Self {
        let now = requests.under_way.fetch_add(1, Relaxed) + 1;
        // Mostly there were more before, and nothing has to be written.
        if now > requests.most.load(Relaxed) {
            requests.most.fetch_max(now, Relaxed);
        }
        Self(&requests.under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whether the answer is a refusal because of load. Other reasons for 503 pass whatever the load is, and 429 says of
/// one client that it sends too much, which is no reason for more replicas.
pub fn is_shed(answer: &Response) -> bool {
    answer.extensions().get::<Kind>() == Some(&OVERLOADED)
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use axum::{
        body::Body,
        response::{IntoResponse, Response},
    };
    use futures::FutureExt;

    use super::*;
    use crate::{
        load::uncounted::uncounted,
        problem::{Problem, kinds},
    };

    const LONG: Duration = Duration::from_millis(50);

    async fn p99_of_two(request: impl AsyncFn() -> Response) -> Duration {
        let requests = Requests::new();
        for _ in 0..2 {
            requests.measure(request()).await;
        }
        requests.latencies.counts().p99()
    }

    async fn shed_by(answer: Response) -> u64 {
        let requests = Requests::new();
        requests.measure(async { answer }).await;
        requests.shed.load(Relaxed)
    }

    #[tokio::test]
    async fn a_request_counts_until_its_answer_begins() {
        let requests = Requests::new();
        {
            let mut held = pin!(requests.measure(std::future::pending()));
            assert!(held.as_mut().now_or_never().is_none());
            assert_eq!(requests.take_most(), 1);
            requests.measure(async { Response::default() }).await;
            assert_eq!(requests.take_most(), 2);
        }
        assert_eq!(requests.take_most(), 1, "what was under way when it was asked last");
        assert_eq!(requests.take_most(), 0, "a request whose client is gone does not count for ever");
    }

    #[tokio::test]
    async fn the_time_to_an_answer_is_counted_but_not_a_wait_that_was_asked_for() {
        assert!(p99_of_two(async || sleep_and_answer().await).await >= LONG);
        assert!(p99_of_two(async || uncounted(sleep_and_answer()).await).await < LONG / 2);
    }

    async fn sleep_and_answer() -> Response {
        tokio::time::sleep(LONG).await;
        Response::new(Body::empty())
    }

    #[tokio::test]
    async fn only_refusals_because_of_load_are_shed() {
        assert_eq!(shed_by(Problem::new(OVERLOADED, "full").into_response()).await, 1);
        assert_eq!(shed_by(Problem::new(kinds::RATE_LIMITED, "one").into_response()).await, 0);
        assert_eq!(shed_by(Problem::new(kinds::NOT_READY, "starting").into_response()).await, 0);
        assert_eq!(shed_by(Problem::new(kinds::ANSWER_TIMEOUT, "late").into_response()).await, 0);
        assert_eq!(shed_by(Problem::new(kinds::INTERNAL, "no").into_response()).await, 0);
    }
}
