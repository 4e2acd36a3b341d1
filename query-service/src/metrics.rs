//! What is measured: queries by view and outcome, and how long they take.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use service_kit::{Problem, problem::kinds::OVERLOADED, telemetry};
use tokio::sync::Semaphore;

use crate::{cache::Cache, problems::VIEW_BEHIND, reader::CacheStatus};

/// From a hit in memory to the longest wait for a position, in seconds.
const DURATION_BOUNDARIES_S: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone)]
pub struct Metrics {
    queries: Counter<u64>,
    duration: Histogram<f64>,
    looked_up: Counter<u64>,
}

impl Metrics {
    pub fn new(cache: Cache, in_flight: Arc<Semaphore>, in_flight_max: usize) -> Self {
        let meter = telemetry::meter();
        meter
            .u64_observable_gauge("queries_in_flight")
            .with_description("Queries under way.")
            .with_callback(move |gauge| {
                gauge.observe((in_flight_max - in_flight.available_permits()) as u64, &[]);
            })
            .build();
        let queries = meter.u64_counter("queries").with_description("Queries by view and outcome.").build();
        let duration = meter
            .f64_histogram("query_duration")
            .with_unit("s")
            .with_description("Time from a query's arrival to its answer, any wait for a position included.")
            .with_boundaries(DURATION_BOUNDARIES_S.to_vec())
            .build();
        let looked_up = meter
            .u64_counter("cache_lookups")
            .with_description("Queries by what the cache had for them: hit, miss, stale or bypass.")
            .build();
        let sized = cache.clone();
        meter
            .u64_observable_gauge("cache_size")
            .with_unit("By")
            .with_description("Bytes that the entries of the cache are taken to occupy.")
            .with_callback(move |gauge| gauge.observe(sized.size().1, &[]))
            .build();
        meter
            .u64_observable_gauge("cache_entries")
            .with_description("Rows and lists in the cache.")
            .with_callback(move |gauge| gauge.observe(cache.size().0, &[]))
            .build();
        Self { queries, duration, looked_up }
    }

    pub fn looked_up(&self, status: CacheStatus) {
        self.looked_up.add(1, &[KeyValue::new("result", status.word())]);
    }

    /// `view` is a name from the catalog, so that the label's values are bounded.
    pub fn answered<T>(&self, view: Option<Arc<str>>, result: &Result<T, Problem>, took: Duration) {
        let view = KeyValue::new("view", view.unwrap_or_else(|| "none".into()));
        self.duration.record(took.as_secs_f64(), std::slice::from_ref(&view));
        self.queries.add(1, &[view, KeyValue::new("outcome", outcome(result))]);
    }
}

fn outcome<T>(result: &Result<T, Problem>) -> &'static str {
    let Err(problem) = result else { return "ok" };
    match problem.kind() {
        OVERLOADED => "overloaded",
        VIEW_BEHIND => "behind",
        kind if kind.status == 404 => "not_found",
        kind if kind.status < 500 => "bad_request",
        _ => "error",
    }
}
