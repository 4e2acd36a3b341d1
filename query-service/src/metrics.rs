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
    metrics::{Histogram, Meter},
};
use service_kit::{Problem, problem::kinds::OVERLOADED, telemetry};
use tokio::sync::Semaphore;

use crate::{cache::Cache, positions::Positions, problems::VIEW_BEHIND, reader::CacheStatus};

/// From a hit in memory to the longest wait for a position, in seconds.
const DURATION_BOUNDARIES_S: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone)]
pub struct Metrics {
    duration: Histogram<f64>,
    views: Views,
}

/// What became of the queries of each view. A query is counted by one addition; instruments look when they are
/// asked.
#[derive(Clone, Default)]
struct Views(Arc<RwLock<HashMap<Arc<str>, Arc<Counts>>>>);

#[derive(Default)]
struct Counts {
    /// Answered, by [`CacheStatus`].
    answered: [AtomicU64; CacheStatus::ALL.len()],
    /// Not answered, in the order of [`FAILURES`].
    failed: [AtomicU64; FAILURES.len()],
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
        let views = Views::default();
        views.observe(&meter);
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
        Self { duration, views }
    }

    /// `view` is a name from the catalog, so that the label's values are bounded.
    pub fn answered(&self, view: Option<Arc<str>>, result: Result<CacheStatus, &Problem>, took: Duration) {
        let view = view.unwrap_or_else(|| "none".into());
        let counts = self.views.of(&view);
        let count = match result {
            Ok(status) => &counts.answered[status as usize],
            Err(problem) => &counts.failed[failure(problem)],
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.duration.record(took.as_secs_f64(), &[KeyValue::new("view", view)]);
    }
}

impl Views {
    fn of(&self, view: &Arc<str>) -> Arc<Counts> {
        if let Some(counts) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(view) {
            return counts.clone();
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(view.clone()).or_default().clone()
    }

    fn each(&self, mut tell: impl FnMut(&Arc<str>, &Counts)) {
        let views = self.0.read().unwrap_or_else(PoisonError::into_inner);
        views.iter().for_each(|(view, counts)| tell(view, counts));
    }

    fn observe(&self, meter: &Meter) {
        let views = self.clone();
        meter
            .u64_observable_counter("queries")
            .with_description("Queries by view and outcome.")
            .with_callback(move |counter| {
                let observe = |view: &Arc<str>, outcome, count| {
                    let labels = [KeyValue::new("view", view.clone()), KeyValue::new("outcome", outcome)];
                    counter.observe(count, &labels);
                };
                views.each(|view, counts| {
                    observe(view, "ok", counts.answered.iter().map(load).sum());
                    for (outcome, count) in FAILURES.into_iter().zip(&counts.failed) {
                        observe(view, outcome, load(count));
                    }
                });
            })
            .build();
        let views = self.clone();
        meter
            .u64_observable_counter("cache_lookups")
            .with_description("Answers by what the cache had for them: hit, miss, stale or bypass.")
            .with_callback(move |counter| {
                views.each(|view, counts| {
                    for (status, count) in CacheStatus::ALL.into_iter().zip(&counts.answered) {
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
