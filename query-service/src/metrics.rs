//! What is measured: queries by view and outcome, how long they take, and the cache.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Histogram, Meter},
};
use service_kit::{Problem, problem::kinds::OVERLOADED, telemetry};
use tokio::sync::Semaphore;

use crate::{cache::Cache, positions::Positions, problems::VIEW_BEHIND, reader::CacheStatus};

/// From a hit in memory to the longest wait for a position, in seconds.
const DURATION_BOUNDARIES_S: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    duration: Histogram<f64>,
    views: Arc<RwLock<HashMap<Arc<str>, Arc<Queries>>>>,
}

/// What became of the queries of one view. A query is counted by one addition; instruments look when they are asked.
struct Queries {
    /// Answered, by [`CacheStatus`].
    answered: [AtomicU64; CacheStatus::ALL.len()],
    /// Not answered, in the order of [`FAILURES`].
    failed: [AtomicU64; FAILURES.len()],
    duration: BoundHistogram<f64>,
}

const FAILURES: [&str; 5] = ["overloaded", "behind", "not_found", "bad_request", "error"];

impl Metrics {
    pub fn new(
        cache: Cache,
        positions: Arc<Positions>,
        in_flight: Arc<Semaphore>,
        in_flight_max: usize,
    ) -> Self {
        let meter = telemetry::meter();
        observe_cache(&meter, cache);
        observe_positions(&meter, positions);
        meter
            .u64_observable_gauge("queries_in_flight")
            .with_description("Queries under way.")
            .with_callback(move |gauge| {
                gauge.observe((in_flight_max - in_flight.available_permits()) as u64, &[]);
            })
            .build();
        let duration = meter
            .f64_histogram("query_duration")
            .with_unit("s")
            .with_description("Time from a query's arrival to its answer, any wait for a position included.")
            .with_boundaries(DURATION_BOUNDARIES_S.to_vec())
            .build();
        let metrics = Self { duration, views: Arc::default() };
        metrics.observe_queries(&meter);
        metrics
    }

    /// `view` is a name from the catalog, so that the label's values are bounded.
    pub fn answered(&self, view: Option<Arc<str>>, result: Result<CacheStatus, &Problem>, took: Duration) {
        let view = view.unwrap_or_else(|| "none".into());
        let queries = self.of(&view);
        let count = match result {
            Ok(status) => &queries.answered[status as usize],
            Err(problem) => &queries.failed[failure(problem)],
        };
        count.fetch_add(1, Ordering::Relaxed);
        queries.duration.record(took.as_secs_f64());
    }

    fn of(&self, view: &Arc<str>) -> Arc<Queries> {
        if let Some(queries) = self.views.read().unwrap_or_else(PoisonError::into_inner).get(view) {
            return queries.clone();
        }
        let new = || {
            let duration = self.duration.bind(&[KeyValue::new("view", view.clone())]);
            Arc::new(Queries { answered: Default::default(), failed: Default::default(), duration })
        };
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        views.entry(view.clone()).or_insert_with(new).clone()
    }

    fn each(&self, mut tell: impl FnMut(&Arc<str>, &Queries)) {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        views.iter().for_each(|(view, queries)| tell(view, queries));
    }

    fn observe_queries(&self, meter: &Meter) {
        let metrics = self.clone();
        meter
            .u64_observable_counter("queries")
            .with_description("Queries by view and outcome.")
            .with_callback(move |counter| {
                let observe = |view: &Arc<str>, outcome, count| {
                    let labels = [KeyValue::new("view", view.clone()), KeyValue::new("outcome", outcome)];
                    counter.observe(count, &labels);
                };
                metrics.each(|view, queries| {
                    observe(view, "ok", queries.answered.iter().map(load).sum());
                    for (outcome, count) in FAILURES.into_iter().zip(&queries.failed) {
                        observe(view, outcome, load(count));
                    }
                });
            })
            .build();
        let metrics = self.clone();
        meter
            .u64_observable_counter("cache_lookups")
            .with_description("Answers by what the cache had for them: hit, miss, stale or bypass.")
            .with_callback(move |counter| {
                metrics.each(|view, queries| {
                    for (status, count) in CacheStatus::ALL.into_iter().zip(&queries.answered) {
                        let result = KeyValue::new("result", status.word());
                        counter.observe(load(count), &[KeyValue::new("view", view.clone()), result]);
                    }
                });
            })
            .build();
    }
}

fn observe_cache(meter: &Meter, cache: Cache) {
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
}

fn observe_positions(meter: &Meter, positions: Arc<Positions>) {
    meter
        .u64_observable_gauge("known_position")
        .with_description("Position up to which a view is known to be folded.")
        .with_callback(move |gauge| {
            positions.each(|view, position| {
                gauge.observe(position.unsigned_abs(), &[KeyValue::new("view", view.clone())]);
            });
        })
        .build();
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Its place in [`FAILURES`].
fn failure(problem: &Problem) -> usize {
    match problem.kind() {
        OVERLOADED => 0,
        VIEW_BEHIND => 1,
        kind if kind.status == 404 => 2,
        kind if kind.status < 500 => 3,
        _ => 4,
    }
}
