//! Time within a request that says nothing of the service's load: its client wants to wait, or is waited for.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

tokio::task_local! {
    /// How much of it the request that is under way has had.
    static UNCOUNTED: Cell<Duration>;
}

/// Waits for something that the request asked to wait for. However long it takes, the service is not slow.
pub async fn uncounted<T>(waiting: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let waited = waiting.await;
    add(began.elapsed());
    waited
}

/// Outside of a request that is measured, nothing is counted anyway.
pub(crate) fn add(waited: Duration) {
    let _ = UNCOUNTED.try_with(|sum| sum.set(sum.get() + waited));
}

/// Gives what `request` gives, and how much of its time is not to be counted.
pub(super) async fn summed<T>(request: impl Future<Output = T>) -> (T, Duration) {
    let summing = async {
        let answer = request.await;
        (answer, UNCOUNTED.with(Cell::get))
    };
    UNCOUNTED.scope(Cell::default(), summing).await
}
