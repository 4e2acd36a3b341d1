//! What the command-service measures.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, Counter, Gauge, Histogram},
};
use service_kit::telemetry;

pub struct Metrics {
    commands: Counter<u64>,
    /// Those of each aggregate and outcome.
    answered: RwLock<HashMap<[&'static str; 2], BoundCounter<u64>>>,
    log_position: Gauge<u64>,
    frame_commands: Histogram<u64>,
    append_seconds: Histogram<f64>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = telemetry::meter();
        Self {
            commands: meter.u64_counter("commands").with_description("Commands answered, by outcome").build(),
            answered: RwLock::default(),
            log_position: meter
                .u64_gauge("log_position")
                .with_description("Position of the last event that this service knows")
                .build(),
            frame_commands: meter
                .u64_histogram("frame_commands")
                .with_description("Commands decided together")
                .with_boundaries(vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0])
                .build(),
            append_seconds: meter
                .f64_histogram("append_seconds")
                .with_description("Time from sending a frame to knowing that it is in the log")
                .with_boundaries(vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0])
                .build(),
        }
    }

    pub fn answered(&self, aggregate: &'static str, outcome: &'static str) {
        if let Some(count) =
            self.answered.read().unwrap_or_else(PoisonError::into_inner).get(&[aggregate, outcome])
        {
            return count.add(1);
        }
        let count =
            self.commands.bind(&[KeyValue::new("aggregate", aggregate), KeyValue::new("outcome", outcome)]);
        count.add(1);
        self.answered.write().unwrap_or_else(PoisonError::into_inner).insert([aggregate, outcome], count);
    }

    pub fn decided(&self, commands: usize) {
        self.frame_commands.record(commands as u64, &[]);
    }

    pub fn appended(&self, took: Duration) {
        self.append_seconds.record(took.as_secs_f64(), &[]);
    }

    pub fn reached(&self, position: u64) {
        self.log_position.record(position, &[]);
    }
}
