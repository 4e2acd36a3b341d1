//! Whose turn it is on a connection, and how long the client may take with its own.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep};

use super::limits::HttpLimits;

/// Cheap to clone.
#[derive(Clone)]
pub struct Turn(Arc<Mutex<Whose>>);

#[derive(Clone, Copy)]
enum Whose {
    /// The client has opened the connection.
    Opened(Instant),
    /// The client has begun a request.
    Head(Instant),
    /// A request is under way.
    Service,
    /// The client may send another request.
    Idle(Instant),
}

impl Turn {
    pub fn opened() -> Self {
        Self(Arc::new(Mutex::new(Whose::Opened(Instant::now()))))
    }

    /// It is the service's until what is given back is dropped.
    pub fn take(&self) -> ServiceTurn {
        *self.lock() = Whose::Service;
        ServiceTurn(self.clone())
    }

    /// Bytes have come.
    pub fn heard(&self) {
        let mut whose = self.lock();
        if matches!(*whose, Whose::Opened(_) | Whose::Idle(_)) {
            *whose = Whose::Head(Instant::now());
        }
    }

    /// Bytes were taken, perhaps the last of an answer that the client reads slowly.
    pub fn taken(&self) {
        let mut whose = self.lock();
        if matches!(*whose, Whose::Idle(_)) {
            *whose = Whose::Idle(Instant::now());
        }
    }

    /// By when the client must have gone on, if it is its turn.
    fn deadline(&self, limits: &HttpLimits) -> Option<Instant> {
        match *self.lock() {
            Whose::Opened(since) | Whose::Head(since) => Some(since + limits.head_timeout()),
            Whose::Idle(since) => Some(since + limits.idle_timeout()),
            Whose::Service => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Whose> {
        // Nothing can panic while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, a request is under way.
pub struct ServiceTurn(Turn);

impl Drop for ServiceTurn {
    fn drop(&mut self) {
        *self.0.lock() = Whose::Idle(Instant::now());
    }
}

/// Waits for the client to be late.
pub struct Patience {
    turn: Turn,
    limits: Arc<HttpLimits>,
    /// Goes off at the client's deadline or before; it is put off only when it has gone off, so that a request
    /// does not cost a change of timers.
    alarm: Pin<Box<Sleep>>,
}

impl Patience {
    pub fn new(turn: Turn, limits: Arc<HttpLimits>) -> Self {
        let alarm = Box::pin(sleep(limits.head_timeout()));
        Self { turn, limits, alarm }
    }

    /// Returns once the client has had its time. Has to be polled whenever the turn may have changed, which
    /// is whenever the connection was polled.
    pub async fn ends(&mut self) {
        poll_fn(|context| self.poll_ends(context)).await;
    }

    fn poll_ends(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.turn.deadline(&self.limits) else { return Poll::Pending };
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(self.alarm.as_mut().poll(context));
            if self.alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(deadline);
        }
    }
}
