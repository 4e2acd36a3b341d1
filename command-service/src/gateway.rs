//! The gateway takes commands to the writer, wherever it is: into its queue, if this instance writes, else
//! over NATS to the instance that does. In between, when nobody writes, it waits a little.

mod forward;

pub use forward::serve as serve_forwarded;

use std::{sync::Arc, time::Duration};

use async_nats::Client;
use service_kit::{lease::Instance, load::Room};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::submission::{Answer, IdempotencyKey, Refusal, Request, Submission};

/// A command is answered within this time, or its outcome is unknown to the client: longer than an append may
/// take, because a command may wait for the append before its own.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// A command waits at most this long for somebody to write. A graceful change of writers takes a fraction of
/// it, and the lease of one that died runs out within it.
const NO_WRITER_WAIT: Duration = Duration::from_secs(3);
/// The pause before a writer that is only just opening its term is asked again.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Where commands are decided now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nobody is known to write.
    Nowhere,
    /// Nobody can write, for this reason.
    LogRefuses(String),
    Here,
    There(Instance),
}

/// How a command goes to the writer.
enum Way {
    Queued(oneshot::Receiver<Answer>),
    There(Instance),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Submission>,
    /// How many of them may wait.
    room: Arc<Room>,
    route: watch::Receiver<Route>,
    client: Client,
    namespace: String,
    /// Commands that may be under way here at once.
    under_way: Semaphore,
}

impl Gateway {
    pub fn new(
        queue: mpsc::Sender<Submission>,
        room: Arc<Room>,
        route: watch::Receiver<Route>,
        client: Client,
        namespace: &str,
    ) -> Self {
        let under_way = Semaphore::new(queue.max_capacity());
        Self(Arc::new(Inner { queue, room, route, client, namespace: namespace.to_owned(), under_way }))
    }

    /// Where commands are decided now.
    pub fn route(&self) -> Route {
        self.0.route.borrow().clone()
    }

    /// Commands that are queued here, are being decided, or are with the instance that writes.
    pub fn under_way(&self) -> usize {
        let Inner { queue, under_way, .. } = &*self.0;
        // Commands whose clients are gone, and those that other instances forward, are only in the queue.
        self.0.waiting().max(queue.max_capacity() - under_way.available_permits())
    }

    /// Has the command decided. What follows does not depend on the caller's waiting for it.
    pub async fn submit(&self, request: Request) -> Answer {
        let Ok(_permit) = self.0.under_way.try_acquire() else { return Err(Refusal::Overloaded) };
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        let answer = tokio::time::timeout_at(deadline, self.0.decide(request)).await;
        answer.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// The same, but a command that nobody can decide now is given back at once. Of commands that are submitted
    /// one after the other, each polled once before the next, the first is queued first. They leave half of the queue
    /// to everybody else.
    pub async fn submit_once(&self, request: Request) -> Answer {
        if self.0.waiting() > self.0.room.now() / 2 {
            return Err(Refusal::Overloaded);
        }
        let Ok(_permit) = self.0.under_way.try_acquire() else { return Err(Refusal::Overloaded) };
        let mut request = Arc::new(request);
        let mut route = self.0.route.clone();
        let answer =
            tokio::time::timeout(ANSWER_TIME_MAX, self.0.decide_once(&mut request, &mut route)).await;
        answer.unwrap_or(Err(Refusal::OutcomeUnknown))
    }
}

impl Inner {
    /// Commands in the queue of this instance's writer.
    fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    async fn decide(&self, request: Request) -> Answer {
        let mut request = Arc::new(request);
        let mut route = self.route.clone();
        let patience = Instant::now() + NO_WRITER_WAIT;
        let mut may_have_effect = false;
        loop {
            match self.decide_once(&mut request, &mut route).await {
                // Whoever writes next knows the command's key, if it had an effect.
                Err(Refusal::OutcomeUnknown) if request.key.is_some() => may_have_effect = true,
                // This try had no effect, but an earlier one may have.
                Err(refusal) if may_have_effect && refusal.is_without_effect() => {}
                Err(Refusal::NoWriter) if Instant::now() < patience => {}
                answer => return answer,
            }
            let _ = tokio::time::timeout(RETRY_DELAY, route.changed()).await;
        }
    }

    async fn decide_once(&self, request: &mut Arc<Request>, route: &mut watch::Receiver<Route>) -> Answer {
        let way = match &*route.borrow_and_update() {
            Route::Nowhere => return Err(Refusal::NoWriter),
            Route::LogRefuses(reason) => return Err(Refusal::LogUnavailable(reason.clone())),
            // While the route is borrowed it cannot change. Who stops writing changes it first and gives back
            // what is queued after that, so that nothing is left in the queue until a later term.
            Route::Here => Way::Queued(self.queue(request.clone())?),
            Route::There(writer) => Way::There(*writer),
        };
        match way {
            Way::Queued(answer) => answer.await.unwrap_or(Err(Refusal::OutcomeUnknown)),
            Way::There(writer) => {
                Arc::make_mut(request).make_repeatable();
                self.decide_there(writer, request, route).await
            }
        }
    }

    /// Puts a command into the queue of this instance's writer, which will answer it.
    fn queue(&self, request: Arc<Request>) -> Result<oneshot::Receiver<Answer>, Refusal> {
        if self.waiting() >= self.room.now() {
            return Err(Refusal::Overloaded);
        }
        let (submission, answer) = Submission::new(request);
        self.queue.try_send(submission).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refusal::NoWriter,
        })?;
        Ok(answer)
    }
}

impl Request {
    /// A command that leaves this instance may have to be sent again, so it needs a key.
    fn make_repeatable(&mut self) {
        if self.key.is_none() {
            self.key = Some(IdempotencyKey::new(format!("forwarded-{}", Uuid::now_v7()), &self.command));
        }
    }
}
