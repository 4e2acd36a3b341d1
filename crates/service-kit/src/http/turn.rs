//! Whose turn it is on a connection, and how long the client may take with its own.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::limits::HttpArgs;

/// Which move the connection has come to. Several happen in each request, so a move costs no lock and no look
/// at the clock. Cheap to clone; all clones are used within the connection's one task.
#[derive(Clone)]
pub struct Turn(Arc<AtomicU64>);

/// One number is a count of moves and, in its remainder, one of these.
const MOVE: u64 = 5;

/// The client has opened the connection.
const OPENED: u64 = 0;
/// The client has begun a request.
const HEAD: u64 = 1;
/// A request is under way.
const SERVICE: u64 = 2;
/// The service has given its answer, and the client has yet to take the rest of it.
const TAKING: u64 = 3;
/// The client may send another request.
const IDLE: u64 = 4;

impl Turn {
    pub fn opened() -> Self {
        Self(Arc::new(AtomicU64::new(OPENED)))
    }

    /// It is the service's until what is given back is dropped.
    pub fn take(&self) -> ServiceTurn {
        self.go_on(SERVICE);
        ServiceTurn(self.clone())
    }

    /// Bytes have come.
    pub fn heard(&self) {
        if matches!(self.now() % MOVE, OPENED | IDLE) {
            self.go_on(HEAD);
        }
    }

    /// The client has no room for more of an answer; how long that may last is for the stream to say.
    pub fn is_full(&self) {
        if self.now() % MOVE == IDLE {
            self.go_on(TAKING);
        }
    }

    /// The client has taken bytes, perhaps the last of an answer.
    pub fn taken(&self) {
        if matches!(self.now() % MOVE, TAKING | IDLE) {
            self.go_on(IDLE);
        }
    }

    fn go_on(&self, to: u64) {
        let now = self.now();
        self.0.store(now - now % MOVE + MOVE + to, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// While it lives, a request is under way.
pub struct ServiceTurn(Turn);

impl Drop for ServiceTurn {
    fn drop(&mut self) {
        self.0.go_on(IDLE);
    }
}

/// Waits for the client to be late.
pub struct Patience {
    turn: Turn,
    head: Duration,
    idle: Duration,
    /// The move that was seen last, and by when another has to follow.
    seen: u64,
    deadline: Option<Instant>,
    /// Goes off at the deadline or before; it is put off only when it has gone off, so that a request does not
    /// cost a change of timers.
    alarm: Pin<Box<Sleep>>,
    /// Who is woken by the alarm.
    sleeper: Option<Waker>,
}

impl Patience {
    pub fn new(turn: Turn, limits: &HttpArgs) -> Self {
        let (head, idle) = (limits.head_timeout(), limits.idle_timeout());
        let alarm = Box::pin(sleep(head));
        let deadline = Some(alarm.deadline());
        Self { seen: turn.now(), turn, head, idle, deadline, alarm, sleeper: None }
    }

    /// Returns once the client has had its time. Has to be polled whenever the connection was.
    pub async fn ends(&mut self) {
        poll_fn(|context| self.poll_ends(context)).await;
    }

    fn poll_ends(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = self.turn.now();
        if self.seen != now {
            self.seen = now;
            self.deadline = self.limit().map(|limit| Instant::now() + limit);
        }
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if deadline < self.alarm.deadline() {
            self.reset(deadline);
        }
        let is_asleep = self.sleeper.as_ref().is_some_and(|sleeper| sleeper.will_wake(context.waker()));
        if is_asleep && !self.alarm.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            self.sleeper = Some(context.waker().clone());
            ready!(self.alarm.as_mut().poll(context));
            if self.alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.reset(deadline);
        }
    }

    /// How long the client may take until its next move; none if it is not the client's turn.
    fn limit(&self) -> Option<Duration> {
        match self.seen % MOVE {
            SERVICE | TAKING => None,
            IDLE => Some(self.idle),
            _ => Some(self.head),
        }
    }

    fn reset(&mut self, deadline: Instant) {
        self.alarm.as_mut().reset(deadline);
        self.sleeper = None;
    }
}
