//! Takes tasks out of the queue, those of the highest priority first: as many as the pace allows, and when it allows
//! none, those that have to be done by now.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use domain::{Timestamp, policy::Definition};
use futures::{FutureExt, StreamExt};
use service_kit::{Health, Shutdown};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    attempt::{Attempts, DELIVERIES_MAX},
    clock,
    pace::{Pace, State},
    queue::QueueError,
    retry::Flow,
    status::Status,
    trickle::Trickle,
};

/// The check of `/health/ready`.
pub const HEALTH: &str = "queue";

/// While nothing may be begun, or there is nothing to do, it is looked again after so long, should no hint come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While tasks are done at a bounded rate, they are taken this often.
const TRICKLE_EVERY: Duration = Duration::from_millis(100);
/// The pause before it is tried again after trouble with the queue.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// When it is time to leave, tasks that are under way get so long; what is not done then is another worker's.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);
/// The last part of the time that load may hold a task back: there it is begun, so that it is done by its deadline.
const LAST_PART: u32 = 10;
/// A task that was taken though its time had not come is given back for no longer than this.
const GIVE_BACK_MAX: Duration = Duration::from_secs(30);
/// A task that was given out so often is not given back any more, lest it be taken for one that ends those who try.
const GIVEN_OUT_MAX: i64 = DELIVERIES_MAX / 2;

pub struct Worker {
    pub attempts: Arc<Attempts>,
    /// In the order in which their tasks are begun.
    pub policies: Vec<&'static Definition>,
    /// When that order was looked at.
    pub ordered: Option<Instant>,
    pub pace: watch::Receiver<Pace>,
    /// Bounds what is done without being told that there is time.
    pub trickle: Trickle,
    pub concurrency: usize,
    pub replicas: usize,
    pub status: Status,
    pub health: Health,
}

impl Worker {
    /// Runs until shutdown; then gives the tasks that are under way a moment.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut running = JoinSet::new();
        while !shutdown.is_cancelled() {
            if let Err(error) = self.work(&mut running, &shutdown).await {
                tracing::warn!(%error, "the queue cannot be worked on");
                self.health.fail(HEALTH, error.to_string());
            }
            tokio::select! { () = shutdown.cancelled() => break, () = sleep(RETRY_DELAY) => {} }
        }
        let finished = timeout(FINISH_TIME_MAX, async { while running.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            tracing::warn!(
                tasks = running.len(),
                "leaving with tasks under way: another worker will do them"
            );
        }
        // What came of the last tasks may not have left this process yet.
        self.attempts.queue.flush().await;
    }

    /// Until shutdown.
    async fn work(&mut self, running: &mut JoinSet<()>, shutdown: &Shutdown) -> Result<(), QueueError> {
        let prepared = tokio::select! { () = shutdown.cancelled() => return Ok(()), prepared = self.prepare() => prepared };
        let mut hints = prepared?;
        self.health.pass(HEALTH);
        while !shutdown.is_cancelled() {
            while running.try_join_next().is_some() {}
            self.status.under_way(running.len());
            // Never broken off: a task that is on its way here would be nobody's until the queue gives it out again.
            let pause = self.step(running).await?;
            if !pause.is_zero() {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = self.wait(running, &mut hints, pause) => {}
                }
            }
        }
        Ok(())
    }

    /// Makes the queue, if it is not there; what tells that there is something to do.
    async fn prepare(&self) -> Result<Subscriber, QueueError> {
        self.attempts.queue.ensure(self.replicas).await?;
        self.attempts.queue.ensure_consumers(&self.policies).await?;
        self.attempts.queue.hints().await
    }

    /// Begins what may be begun; how long there is nothing more to begin.
    async fn step(&mut self, running: &mut JoinSet<()>) -> Result<Duration, QueueError> {
        let pace = self.pace.borrow_and_update().clone();
        let most = match self.attempts.breaker.flow(Instant::now()) {
            Flow::Nothing { reason } => {
                self.status.works(&Pace { reason, ..pace }, "the mail server is unavailable");
                return Ok(TRICKLE_EVERY);
            }
            Flow::OneToTry => 1,
            Flow::Everything => self.concurrency,
        };
        self.status.works(&pace, "");
        let free = |slots: usize| slots.min(most).saturating_sub(running.len());
        match pace.state {
            State::Rising | State::Full => {
                let begun = self.begin(running, free(pace.slots)).await?;
                Ok(if begun == 0 { LOOK_EVERY } else { Duration::ZERO })
            }
            State::Blind => {
                let allowed = self.trickle.allowed(Instant::now()).min(free(self.concurrency));
                let begun = self.begin(running, allowed).await?;
                self.trickle.take(begun);
                Ok(TRICKLE_EVERY)
            }
            State::Held => self.begin_due(running, free(self.concurrency)).await,
        }
    }

    /// Puts the policies into the order in which their tasks are begun: by priority, but those first that can wait no
    /// longer. Only now and then, because it asks the queue.
    async fn order(&mut self) -> Result<(), QueueError> {
        if self.ordered.is_some_and(|then| then.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.ordered = Some(Instant::now());
        let mut urgent = Vec::new();
        for policy in &self.policies {
            let deadline = self.attempts.queue.first_deadline(policy.name).await?;
            if deadline.is_some_and(|deadline| due_in(policy, deadline, clock::now()).is_zero()) {
                urgent.push(policy.name);
            }
        }
        self.policies.sort_by_key(|policy| (!urgent.contains(&policy.name), policy.priority));
        Ok(())
    }

    /// Begins up to `count` tasks; how many there were.
    async fn begin(&mut self, running: &mut JoinSet<()>, count: usize) -> Result<usize, QueueError> {
        if count == 0 {
            return Ok(0);
        }
        self.order().await?;
        let mut begun = 0;
        for &policy in &self.policies {
            if begun == count {
                break;
            }
            for delivery in self.attempts.queue.take(policy.name, count - begun).await? {
                running.spawn(self.attempts.clone().run(policy, delivery));
                begun += 1;
            }
        }
        Ok(begun)
    }

    /// Begins tasks that load may hold back no longer, at a bounded rate; when to look again.
    async fn begin_due(&mut self, running: &mut JoinSet<()>, free: usize) -> Result<Duration, QueueError> {
        let now = clock::now();
        let mut allowed = self.trickle.allowed(Instant::now()).min(free);
        let mut next = LOOK_EVERY;
        for policy in &self.policies {
            let Some(deadline) = self.attempts.queue.first_deadline(policy.name).await? else { continue };
            let due_in = |deadline| due_in(policy, deadline, now);
            next = next.min(due_in(deadline));
            if !due_in(deadline).is_zero() || allowed == 0 {
                continue;
            }
            for delivery in self.attempts.queue.take(policy.name, allowed).await? {
                // If the one that is due is under way elsewhere, it is one that is not.
                if let Some(time) = give_back_for(due_in(delivery.task.deadline), delivery.number) {
                    delivery.give_back(time).await;
                    continue;
                }
                running.spawn(self.attempts.clone().run(policy, delivery));
                self.trickle.take(1);
                allowed -= 1;
            }
        }
        Ok(next.max(TRICKLE_EVERY))
    }

    /// Until there may be something to begin.
    async fn wait(&mut self, running: &mut JoinSet<()>, hints: &mut Subscriber, pause: Duration) {
        let may_begin_more = self.pace.borrow().slots > 0;
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.pace.changed() => {}
            Some(_) = running.join_next() => {}
            Some(_) = hints.next(), if may_begin_more => {}
        }
        // One look serves all hints that have arrived.
        while let Some(Some(_)) = hints.next().now_or_never() {}
    }
}

/// How long a task can still wait: until the last part of its time.
fn due_in(policy: &Definition, deadline: Timestamp, now: Timestamp) -> Duration {
    let last_part = Duration::from_secs(policy.within_seconds.into()) / LAST_PART;
    let micros = deadline.micros() - last_part.as_micros() as i64 - now.micros();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// How long a task is given back for that is due in a while; not at all, if it is to be begun.
fn give_back_for(due_in: Duration, given_out: i64) -> Option<Duration> {
    let is_to_be_begun = due_in.is_zero() || given_out >= GIVEN_OUT_MAX;
    (!is_to_be_begun).then_some(due_in.min(GIVE_BACK_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_not_due_is_given_back_until_it_is_but_not_for_long() {
        assert_eq!(give_back_for(Duration::ZERO, 1), None);
        assert_eq!(give_back_for(Duration::from_secs(3), 1), Some(Duration::from_secs(3)));
        assert_eq!(give_back_for(Duration::from_secs(3_600), 1), Some(GIVE_BACK_MAX));
    }

    #[test]
    fn a_task_is_not_given_back_so_often_that_it_would_be_taken_for_dead() {
        let given_back = (1..).take_while(|number| give_back_for(Duration::from_secs(60), *number).is_some());
        assert!(given_back.count() < DELIVERIES_MAX as usize);
    }
}
