//! The same measures for Prometheus: those of the report that was made last.

use opentelemetry::KeyValue;

use super::{Load, LoadReport};
use crate::telemetry;

type Measure = fn(&LoadReport) -> f64;

const GAUGES: [(&str, &str, Measure); 8] = [
    ("load_pressure", "How near the service is to a limit of its own; from 1 on it is at it", |load| {
        load.pressure
    }),
    ("load_utilisation", "Share of the time that the service's threads were busy", |load| load.utilisation),
    ("load_in_flight", "Most requests under way at once in the last second", |load| load.in_flight as f64),
    ("load_in_flight_max", "Requests that may be under way at once", |load| load.in_flight_max as f64),
    ("load_queued", "What waits inside the service for its turn", |load| load.queued as f64),
    ("load_queued_max", "What may wait inside the service for its turn", |load| load.queued_max as f64),
    ("load_p99_seconds", "Time that 99 of 100 answers of the last second took at most", |load| {
        load.p99_ms / 1e3
    }),
    ("load_p99_target_seconds", "Time that 99 of 100 answers should take at most", |load| {
        load.p99_target_ms / 1e3
    }),
];

/// Gives the instruments what `load` measures, whenever they are asked.
pub fn observe(load: &Load) {
    let meter = telemetry::meter();
    let labels = [KeyValue::new("service", load.service())];
    for (name, description, measure) in GAUGES {
        let (load, labels) = (load.clone(), labels.clone());
        meter
            .f64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(report) = &*load.latest() {
                    gauge.observe(measure(report), &labels);
                }
            })
            .build();
    }
    let load = load.clone();
    meter
        .u64_observable_counter("load_shed")
        .with_description("Requests refused because of load")
        .with_callback(move |counter| counter.observe(load.shed_count(), &labels))
        .build();
}
