//! How the tasks are, for people: `GET /tasks`.

use std::sync::{Arc, Mutex, PoisonError};

use domain::{
    Timestamp,
    policy::{Definition, Priority},
};
use serde::Serialize;

use crate::{
    metrics::Metrics,
    pace::Pace,
    queue::{Depth, QueuedTask},
};

/// A cloneable handle to what is known.
#[derive(Clone)]
pub struct Status {
    report: Arc<Mutex<Report>>,
    metrics: Metrics,
}

/// What `GET /tasks` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub instance: String,
    /// How many tasks this worker may have under way, and why.
    pub pace: Option<Pace>,
    /// What keeps tasks from being done, whatever the pace; empty, if nothing does.
    pub obstacle: String,
    pub under_way_here: usize,
    pub planner: PlannerReport,
    pub policies: Vec<PolicyReport>,
    /// Tasks whose time has not come, of all policies: those that are tried again later, too.
    pub later: u64,
    pub dead_letters: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct PlannerReport {
    /// Whether this is the worker that plans.
    pub is_here: bool,
    /// Up to which position it has planned, if it is here.
    pub position: u64,
    /// The last position of the log.
    pub log_position: u64,
    /// Why it cannot go on; empty, if it can.
    pub trouble: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    pub policy: &'static str,
    pub priority: Priority,
    /// Tasks that may be done and are not under way.
    pub ready: u64,
    /// Tasks under way, on all workers.
    pub under_way: u64,
    /// The first deadline of all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_deadline: Option<Timestamp>,
}

impl Status {
    pub fn new(instance: String, policies: &[&'static Definition], metrics: Metrics) -> Self {
        let policies = policies.iter().map(|policy| PolicyReport {
            policy: policy.name,
            priority: policy.priority,
            ready: 0,
            under_way: 0,
            first_deadline: None,
        });
        let report = Report {
            instance,
            pace: None,
            obstacle: String::new(),
            under_way_here: 0,
            planner: PlannerReport::default(),
            policies: policies.collect(),
            later: 0,
            dead_letters: 0,
        };
        Self { report: Arc::new(Mutex::new(report)), metrics }
    }

    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    pub fn works(&self, pace: &Pace, obstacle: &str) {
        self.metrics.paced(pace.slots, pace.is_held());
        let mut report = self.lock();
        report.pace = Some(pace.clone());
        obstacle.clone_into(&mut report.obstacle);
    }

    pub fn under_way(&self, tasks: usize) {
        self.lock().under_way_here = tasks;
    }

    pub fn plans(&self, position: u64) {
        let mut report = self.lock();
        let log_position = report.planner.log_position.max(position);
        report.planner = PlannerReport { is_here: true, position, log_position, trouble: String::new() };
    }

    pub fn planned(&self, tasks: &[(QueuedTask, Option<Timestamp>)]) {
        for policy in self.lock().policies.iter().map(|policy| policy.policy) {
            let count = tasks.iter().filter(|(task, _)| task.id.policy == policy).count();
            self.metrics.planned(policy, count as u64);
        }
    }

    pub fn does_not_plan(&self) {
        self.lock().planner.is_here = false;
    }

    pub fn cannot_plan(&self, trouble: &str) {
        trouble.clone_into(&mut self.lock().planner.trouble);
    }

    pub fn log_ends(&self, position: u64) {
        let mut report = self.lock();
        let planner = &mut report.planner;
        planner.log_position = position;
        if planner.is_here {
            self.metrics.lags(position.saturating_sub(planner.position));
        }
    }

    pub fn waits(
        &self,
        policy: &'static str,
        depth: Depth,
        first_deadline: Option<Timestamp>,
        now: Timestamp,
    ) {
        let overdue = first_deadline.map_or(0, |deadline| (now.micros() - deadline.micros()).max(0));
        self.metrics.waits(policy, depth.ready, overdue as f64 / 1e6);
        for report in self.lock().policies.iter_mut().filter(|report| report.policy == policy) {
            (report.ready, report.under_way) = (depth.ready, depth.under_way);
            report.first_deadline = first_deadline;
        }
    }

    pub fn counted(&self, in_queue: u64, dead_letters: u64) {
        self.metrics.dead(dead_letters);
        let mut report = self.lock();
        report.dead_letters = dead_letters;
        let at_hand: u64 = report.policies.iter().map(|policy| policy.ready + policy.under_way).sum();
        report.later = in_queue.saturating_sub(at_hand);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Report> {
        // Each use leaves it whole.
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
