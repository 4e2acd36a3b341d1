//! Plans: follows the log, and puts what events owe into the queue. One worker does so at a time, whichever holds the
//! lease; that no event is planned twice is the doing of the progress, which moves in one batch with the tasks.

mod plan;
mod spans;

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use domain::policy::Definition;
use event_log::{Checkpoint, EventLog, FollowError, Frame, LogError, Target};
use service_kit::{
    Health, Shutdown,
    lease::{Instance, Lease, LeaseError},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    pace::Pace,
    queue::{PlanError, Progress, Queue, QueueError, Stored},
    status::Status,
};

use plan::Plan;
pub use plan::read;

/// The check of `/health/ready`.
pub const HEALTH: &str = "planner";

/// While events owe tasks all the time, they are gathered for so long: a batch costs the server's disk the same
/// whatever is in it, and the log needs that disk.
const GATHER: Duration = Duration::from_millis(100);
/// Events that owe nothing move the progress on only now and then: reading them again does no harm.
const UNPLANNED_MAX: u64 = 10_000;
/// The pause before it is tried again after trouble.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Who does not plan looks this often whether nobody does; who does, whether the progress is still its own.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// More tasks than this are not put into the queue; they stay owed in the log.
const QUEUE_MAX: u64 = 1_000_000;
/// A policy that was not run for longer than this, while others were, was turned off, and starts anew when it is turned
/// on again. In a shorter time it is a worker of an older version that planned for a while.
const OFF_HOURS: i64 = 1;
/// How often it is looked whether a full queue has room again.
const FULL_DELAY: Duration = Duration::from_secs(1);

/// Where a policy that was never run before starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    Now,
    /// With the event after this position.
    After(u64),
}

pub struct Planner {
    pub log: EventLog,
    pub queue: Queue,
    pub policies: &'static [Definition],
    pub starts: BTreeMap<String, Start>,
    pub me: Instance,
    pub pace: watch::Receiver<Pace>,
    pub status: Status,
    pub health: Health,
}

/// Why planning ended; it begins anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Planner {
    /// Runs until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut known = String::new();
        while !shutdown.is_cancelled() {
            let planned = self.hold_and_plan(&shutdown).await;
            self.status.does_not_plan();
            if let Err(trouble) = planned {
                let trouble = trouble.to_string();
                if trouble != known {
                    tracing::warn!(trouble, "planning begins anew");
                }
                self.health.fail(HEALTH, trouble.clone());
                self.status.cannot_plan(&trouble);
                known = trouble;
            }
            shutdown.run_until_cancelled(sleep(RETRY_DELAY)).await;
        }
    }

    /// Waits for the lease, and plans for as long as it is held.
    async fn hold_and_plan(&self, shutdown: &Shutdown) -> Result<(), Trouble> {
        let bucket = format!("{}_PLANNER", self.log.namespace());
        let about = "Which task-worker of Headwater plans";
        // As available as the log, where there is one already.
        let copies = self.log.copies().await.unwrap_or(self.log.replicas());
        let lease = Lease::open(self.log.client(), bucket, about, copies, self.me).await?;
        let held = loop {
            match lease.take().await? {
                Some(held) => break held,
                None if shutdown.is_cancelled() => return Ok(()),
                None => {
                    // Another plans, which is as it should be.
                    self.health.pass(HEALTH);
                    shutdown.run_until_cancelled(sleep(LOOK_INTERVAL)).await;
                }
            }
        };
        let planned = tokio::select! {
            planned = self.plan() => planned,
            () = held.lost() => Ok(()),
            () = shutdown.cancelled() => Ok(()),
        };
        held.release().await;
        planned
    }

    /// Plans for ever.
    async fn plan(&self) -> Result<(), Trouble> {
        self.queue.ensure(self.log.replicas()).await?;
        let mut stored = self.start_policies(self.queue.progress().await?).await?;
        let mut progress = stored.progress.clone();
        let mut follower = self.log.follow(self.place(&progress).await?);
        let mut looked_at = Instant::now();
        loop {
            let frames = follower.available().await?;
            if !frames.is_empty() {
                stored = self.plan_frames(&frames, follower.checkpoint(), &mut progress, stored).await?;
            }
            self.health.pass(HEALTH);
            self.status.plans(self.seen_by_all(&progress));
            if frames.is_empty() {
                follower.wait().await;
            }
            if looked_at.elapsed() > LOOK_INTERVAL {
                self.is_ours(&stored).await?;
                looked_at = Instant::now();
            }
        }
    }

    /// A person may have moved the progress.
    async fn is_ours(&self, stored: &Stored) -> Result<(), Trouble> {
        match self.queue.progress().await?.sequence == stored.sequence {
            true => Ok(()),
            false => Err(PlanError::Conflict.into()),
        }
    }

    /// Gives each policy that was not run before a place to start at, and stores that at once: what happens from then
    /// on is owed, whatever happens to this worker.
    async fn start_policies(&self, stored: Stored) -> Result<Stored, Trouble> {
        let mut progress = stored.progress.clone();
        let now = crate::clock::now();
        let names = || self.policies.iter().map(|policy| policy.name);
        for policy in names() {
            let was_off = progress.off.remove(policy).is_some_and(|since| since.plus_hours(OFF_HOURS) < now);
            if was_off || !progress.policies.contains_key(policy) {
                let after = match self.starts.get(policy) {
                    Some(Start::After(position)) => *position,
                    Some(Start::Now) | None => self.log.head().await?.position,
                };
                tracing::info!(policy, after, "a policy starts");
                progress.policies.insert(policy.to_owned(), after);
            }
        }
        for unknown in progress.policies.keys().filter(|name| !names().any(|known| known == *name)) {
            progress.off.entry(unknown.clone()).or_insert(now);
        }
        if progress == stored.progress {
            return Ok(stored);
        }
        progress.checkpoint = self.place(&progress).await?;
        Ok(self.queue.plan(&[], progress, &stored).await?)
    }

    /// Where to read on, so that no policy misses anything.
    async fn place(&self, progress: &Progress) -> Result<Checkpoint, Trouble> {
        let first = self.seen_by_all(progress);
        if progress.checkpoint.frame_id.is_some() && progress.checkpoint.position <= first {
            return Ok(progress.checkpoint);
        }
        Ok(self.log.seek(Target::Position(first + 1)).await?)
    }

    fn seen_by_all(&self, progress: &Progress) -> u64 {
        let seen = self.policies.iter().filter_map(|policy| progress.policies.get(policy.name));
        seen.copied().min().unwrap_or(0)
    }

    /// Plans what was read up to `checkpoint`.
    async fn plan_frames(
        &self,
        frames: &[Frame],
        checkpoint: Checkpoint,
        progress: &mut Progress,
        mut stored: Stored,
    ) -> Result<Stored, Trouble> {
        let mut plan = Plan::default();
        for event in frames.iter().flat_map(|frame| &frame.events) {
            if plan.is_full(self.policies.len()) {
                // In the middle of a frame: it is read again by whoever goes on from here.
                stored = self.store(std::mem::take(&mut plan), progress.clone(), &stored).await?;
            }
            plan.add(event, self.policies, &mut progress.policies);
        }
        progress.checkpoint = checkpoint;
        let unplanned = checkpoint.position.saturating_sub(stored.progress.checkpoint.position);
        if plan.is_empty() && unplanned < UNPLANNED_MAX {
            return Ok(stored);
        }
        stored = self.store(plan, progress.clone(), &stored).await?;
        sleep(GATHER).await;
        Ok(stored)
    }

    async fn store(&self, mut plan: Plan, progress: Progress, after: &Stored) -> Result<Stored, Trouble> {
        while !plan.tasks.is_empty() && self.queue.count().await? >= QUEUE_MAX {
            self.status.cannot_plan(&format!("the queue has {QUEUE_MAX} tasks; more stay owed in the log"));
            sleep(FULL_DELAY).await;
        }
        // Those go first: if the rest fails, they are cancelled again, which changes nothing.
        for (policy, aggregate) in &plan.cancelled {
            self.queue.cancel(policy, *aggregate).await?;
        }
        let spans = spans::planning(&mut plan.tasks, self.log.namespace());
        let stored = self.queue.plan(&plan.tasks, progress, after).await?;
        drop(spans);
        self.status.planned(&plan.tasks);
        if self.pace.borrow().is_held() {
            sleep(GATHER).await;
        }
        Ok(stored)
    }
}

/// Lets all policies go on after a position, or after the end of the log.
pub async fn restart(
    queue: &Queue,
    log: &EventLog,
    policies: &[Definition],
    after: Option<u64>,
) -> anyhow::Result<Progress> {
    let stored = queue.progress().await?;
    let end = log.head().await?.position;
    let after = after.unwrap_or(end);
    // What happens up to there would be owed by nobody.
    ensure!(after <= end, "--after: the log ends at position {end}; no policy can go on after {after}");
    let policies = policies.iter().map(|policy| (policy.name.to_owned(), after)).collect();
    let checkpoint = log.seek(Target::Position(after + 1)).await?;
    let progress = Progress { checkpoint, policies, off: stored.progress.off.clone() };
    Ok(queue.plan(&[], progress, &stored).await?.progress)
}
