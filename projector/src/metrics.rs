//! What is measured. Lag is `headwater_log_head` minus `headwater_view_position`.

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

    pub fn batch(&self, view: &'static str, events: u64, took: Duration) {
        let view = [KeyValue::new("view", view)];
        self.events.add(events, &view);
        self.batch.record(took.as_secs_f64(), &view);
    }
}
