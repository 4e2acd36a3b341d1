//! What the task-worker measures.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};
use service_kit::telemetry;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    NotOwed,
    /// It was brought on by a worker that did not come to say so.
    Repeated,
    Later,
    Dead,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotOwed => "not-owed",
            Self::Repeated => "repeated",
            Self::Later => "later",
            Self::Dead => "dead",
        }
    }
}

#[derive(Clone)]
pub struct Metrics {
    attempts: Counter<u64>,
    attempt_seconds: Histogram<f64>,
    planned: Counter<u64>,
    slots: Gauge<u64>,
    held: Gauge<u64>,
    waiting: Gauge<u64>,
    dead_letters: Gauge<u64>,
    overdue_seconds: Gauge<f64>,
    planner_lag: Gauge<u64>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = telemetry::meter();
        let gauge =
            |name: &'static str, about: &'static str| meter.u64_gauge(name).with_description(about).build();
        Self {
            attempts: meter
                .u64_counter("task_attempts")
                .with_description("Tasks tried, by policy and outcome")
                .build(),
            attempt_seconds: meter
                .f64_histogram("task_attempt_seconds")
                .with_description("Time from taking a task to saying what came of it")
                .with_boundaries(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
                .build(),
            planned: meter
                .u64_counter("tasks_planned")
                .with_description("Tasks put into the queue by this worker, by policy")
                .build(),
            slots: gauge("task_slots", "Tasks that may be under way at once on this worker"),
            held: gauge("tasks_held", "1 while tasks are held back because the services are busy"),
            waiting: gauge("tasks_waiting", "Tasks that are ready and not under way, by policy"),
            dead_letters: gauge("dead_letters", "Tasks that could not be done and wait for a person"),
            overdue_seconds: meter
                .f64_gauge("task_overdue_seconds")
                .with_description("How long the first task is past its deadline, by policy")
                .build(),
            planner_lag: gauge("planner_lag_events", "Events that were not planned yet"),
        }
    }

    pub fn ended(&self, policy: &'static str, outcome: Outcome, took: Duration) {
        let labels = [KeyValue::new("policy", policy), KeyValue::new("outcome", outcome.name())];
        self.attempts.add(1, &labels);
        self.attempt_seconds.record(took.as_secs_f64(), &[]);
    }

    pub fn planned(&self, policy: &str, count: u64) {
        self.planned.add(count, &[KeyValue::new("policy", policy.to_owned())]);
    }

    pub fn paced(&self, slots: usize, is_held: bool) {
        self.slots.record(slots as u64, &[]);
        self.held.record(u64::from(is_held), &[]);
    }

    pub fn waits(&self, policy: &'static str, waiting: u64, overdue_seconds: f64) {
        let labels = [KeyValue::new("policy", policy)];
        self.waiting.record(waiting, &labels);
        self.overdue_seconds.record(overdue_seconds, &labels);
    }

    pub fn dead(&self, dead_letters: u64) {
        self.dead_letters.record(dead_letters, &[]);
    }

    pub fn lags(&self, events: u64) {
        self.planner_lag.record(events, &[]);
    }
}
