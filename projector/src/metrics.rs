//! What is measured. Lag in events is `headwater_log_head` minus `headwater_view_position`.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};
use service_kit::telemetry;

/// From the commit of a single event to the longest transaction, in seconds.
const BATCH_BOUNDARIES_S: [f64; 13] =
    [0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone)]
pub struct Metrics {
    head: Gauge<u64>,
    position: Gauge<u64>,
    lag: Gauge<f64>,
    stalled: Gauge<u64>,
    quarantined: Gauge<u64>,
    events: Counter<u64>,
    batch: Histogram<f64>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = telemetry::meter();
        Self {
            head: meter
                .u64_gauge("log_head")
                .with_description("The position of the last event in the log.")
                .build(),
            position: meter
                .u64_gauge("view_position")
                .with_description("The position up to which a view is folded.")
                .build(),
            lag: meter
                .f64_gauge("view_lag")
                .with_unit("s")
                .with_description(
                    "How long, at the most, the oldest event has waited that is not yet in a view.",
                )
                .build(),
            stalled: meter
                .u64_gauge("view_stalled")
                .with_description("1 if a view makes no progress although events wait.")
                .build(),
            quarantined: meter
                .u64_gauge("view_quarantined_keys")
                .with_description("Keys of a view that this projector folds, whose events cannot be applied.")
                .build(),
            events: meter
                .u64_counter("view_events")
                .with_description("Events that this projector has read for a view and committed.")
                .build(),
            batch: meter
                .f64_histogram("view_batch")
                .with_unit("s")
                .with_description("Time to fetch, fold, write and commit one batch of a view.")
                .with_boundaries(BATCH_BOUNDARIES_S.to_vec())
                .build(),
        }
    }

    pub fn head(&self, position: u64) {
        self.head.record(position, &[]);
    }

    pub fn position(&self, view: &'static str, position: u64) {
        self.position.record(position, &[KeyValue::new("view", view)]);
    }

    pub fn lag(&self, view: &'static str, lag: Duration) {
        self.lag.record(lag.as_secs_f64(), &[KeyValue::new("view", view)]);
    }

    pub fn stalled(&self, view: &'static str, is_stalled: bool) {
        self.stalled.record(u64::from(is_stalled), &[KeyValue::new("view", view)]);
    }

    pub fn quarantined(&self, view: &'static str, keys: usize) {
        self.quarantined.record(keys as u64, &[KeyValue::new("view", view)]);
    }

    pub fn batch(&self, view: &'static str, events: u64, took: Duration) {
        let view = [KeyValue::new("view", view)];
        self.events.add(events, &view);
        self.batch.record(took.as_secs_f64(), &view);
    }
}
