//! One task that this worker was given: done, tried again later, or dead.

use std::{sync::Arc, time::Instant};

use domain::policy::Definition;
use service_kit::trace::{self, Span, SpanKind};
use tokio::time::{Duration, sleep};

use crate::{
    clock,
    effect::{Done, EffectError, Effects},
    metrics::{Metrics, Outcome},
    queue::{ACK_WAIT, Delivery, Queue, QueueError, QueuedTask},
    retry::{Breaker, next_attempt},
};

/// What a task may take beside the sending of an email, or it is taken for hanging.
const TIME_MAX: Duration = Duration::from_secs(30);
/// A task that was given out so often, and of which no worker ever said what came of it, ends those who try.
pub const DELIVERIES_MAX: i64 = 10;
/// What is kept of an error.
const ERROR_CHARS_MAX: usize = 1_000;

/// What every attempt works with.
pub struct Attempts {
    pub queue: Queue,
    pub effects: Arc<Effects>,
    pub breaker: Breaker,
    pub metrics: Metrics,
    /// A task that was tried so often to no effect is dead.
    pub attempts_max: u32,
}

impl Attempts {
    /// Whatever fails here is given out again after a while, by the queue itself.
    pub async fn run(self: Arc<Self>, policy: &'static Definition, delivery: Delivery) {
        let begun = Instant::now();
        let span = span(policy, &delivery.task);
        let attempting = async {
            match self.attempt(policy, &delivery).await {
                Ok(outcome) => {
                    trace::say("headwater.outcome", outcome.name());
                    self.metrics.ended(policy.name, outcome, begun.elapsed());
                }
                Err(error) => {
                    span.iter().for_each(|span| span.failed("unsaid"));
                    tracing::warn!(task = %delivery.task.id, %error, "what came of a task cannot be said");
                }
            }
        };
        tokio::select! {
            () = trace::within(span.as_ref(), attempting) => {}
            () = keep(&delivery) => unreachable!("it is kept for ever"),
        }
    }

    async fn attempt(&self, policy: &Definition, delivery: &Delivery) -> Result<Outcome, QueueError> {
        if delivery.number > 1 && self.queue.was_moved(delivery).await? {
            delivery.done().await?;
            return Ok(Outcome::Repeated);
        }
        let outcome = if delivery.number > DELIVERIES_MAX {
            let error = format!("{} workers took it and said nothing more", delivery.number - 1);
            self.bury(&delivery.task, error).await?
        } else {
            match self.perform(&delivery.task).await {
                Ok(done) => {
                    self.breaker.works();
                    if done == Done::Done { Outcome::Done } else { Outcome::NotOwed }
                }
                Err(error) => self.failed(policy, &delivery.task, error).await?,
            }
        };
        delivery.done().await?;
        Ok(outcome)
    }

    /// In a task of its own, so that a panic is an error like others.
    async fn perform(&self, task: &QueuedTask) -> Result<Done, EffectError> {
        let (effects, task) = (self.effects.clone(), task.clone());
        let performing = tokio::spawn(trace::carried(async move { effects.perform(&task).await }));
        let abort = performing.abort_handle();
        let longest = TIME_MAX + self.effects.mailer.longest().unwrap_or_default();
        match tokio::time::timeout(longest, performing).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(EffectError::Refused(format!("it failed inside: {error}"))),
            Err(_) => {
                abort.abort();
                Err(EffectError::NotNow(format!("it took longer than {longest:?}")))
            }
        }
    }

    async fn failed(
        &self,
        policy: &Definition,
        task: &QueuedTask,
        error: EffectError,
    ) -> Result<Outcome, QueueError> {
        let now = clock::now();
        match error {
            EffectError::Refused(error) => {
                self.breaker.works();
                self.bury(task, error).await
            }
            EffectError::NotNow(error) => {
                let attempts = task.attempts + 1;
                if attempts >= self.attempts_max {
                    return self.bury(task, error).await;
                }
                self.put_later(policy, task, attempts, error, next_attempt(attempts, now)).await
            }
            EffectError::Unavailable(error) => {
                let pause = self.breaker.fails(&error, Instant::now());
                let seconds = pause.as_secs() as i64 + 1;
                // It is not this task's fault, so the attempt does not count.
                self.put_later(policy, task, task.attempts, error, now.plus_seconds(seconds)).await
            }
        }
    }

    async fn put_later(
        &self,
        policy: &Definition,
        task: &QueuedTask,
        attempts: u32,
        error: String,
        time: domain::Timestamp,
    ) -> Result<Outcome, QueueError> {
        tracing::debug!(task = %task.id, attempts, error, "a task is tried again later");
        let error = Some(shortened(error));
        let later = QueuedTask { attempts, error, deadline: policy.deadline(time), ..task.clone() };
        self.queue.put_later(&later, time).await?;
        Ok(Outcome::Later)
    }

    async fn bury(&self, task: &QueuedTask, error: String) -> Result<Outcome, QueueError> {
        // What a mail server says often names the recipient, who has no place in the log.
        tracing::warn!(task = %task.id, "a task is dead; its letter says why");
        let dead = QueuedTask { attempts: task.attempts + 1, error: Some(shortened(error)), ..task.clone() };
        self.queue.bury(dead, clock::now()).await?;
        Ok(Outcome::Dead)
    }
}

/// In the trace that the task belongs to.
fn span(policy: &Definition, task: &QueuedTask) -> Option<Span> {
    let context = trace::sampled(task.traceparent.as_deref())?;
    let span = Span::after(&context, SpanKind::Consumer, format!("attempt {}", policy.name))?;
    span.messaging("attempt", "process", "{namespace}.tasks.ready.{policy}");
    span.set("headwater.policy", policy.name);
    span.set("headwater.attempt", i64::from(task.attempts) + 1);
    Some(span)
}

/// Says all the time that the task is under way.
async fn keep(delivery: &Delivery) {
    loop {
        sleep(ACK_WAIT / 3).await;
        delivery.under_way().await;
    }
}

fn shortened(error: String) -> String {
    match error.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &error[..end]),
        None => error,
    }
}
