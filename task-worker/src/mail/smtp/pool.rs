use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::time::{Instant, sleep_until, timeout};

/// Servers close idle connections after a minute or more; those that we do not need are closed before.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// To say goodbye is polite, but nothing depends on it.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// Connections that wait for the next email. Only those get here whose last dialogue came to its end. There are never
/// more of them than there were emails under way at once.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The longest idle first.
    idle: Vec<(Instant, AsyncSmtpConnection)>,
    /// Whether a task waits to close them.
    is_watched: bool,
}

impl Pool {
    /// The connection that was used last: so the others become idle, and are closed.
    pub fn take(&self) -> Option<AsyncSmtpConnection> {
        self.state().idle.pop().map(|(_, connection)| connection)
    }

    pub fn keep(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        let mut state = self.state();
        let now = Instant::now();
        state.idle.push((now, connection));
        if !mem::replace(&mut state.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self), now + IDLE_MAX));
        }
    }

    /// Closes all, without a word: they are likely to be dead.
    pub fn clear(&self) {
        self.state().idle.clear();
    }

    /// Removes those that were idle for long, and says when the next one will have been.
    fn expired(&self) -> (Vec<AsyncSmtpConnection>, Option<Instant>) {
        let mut state = self.state();
        let now = Instant::now();
        let count = state.idle.iter().take_while(|(since, _)| *since + IDLE_MAX <= now).count();
        let expired = state.idle.drain(..count).map(|(_, connection)| connection).collect();
        let next = state.idle.first().map(|(since, _)| *since + IDLE_MAX);
        state.is_watched = next.is_some();
        (expired, next)
    }

    /// Nothing panics while it holds the lock in the middle of a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections when they were idle for long, the first at this time, until there are none.
async fn watch(pool: Weak<Pool>, first: Instant) {
    let mut next = Some(first);
    while let Some(time) = next {
        sleep_until(time).await;
        let Some(pool) = pool.upgrade() else { return };
        let (expired, then) = pool.expired();
        drop(pool);
        for mut connection in expired {
            // One that does not answer is dropped, which closes it too.
            let _ = timeout(GOODBYE_MAX, connection.abort()).await;
        }
        next = then;
    }
}
