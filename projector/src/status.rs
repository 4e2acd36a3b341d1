//! How each view is doing, in one place for health, metrics, log lines and `GET /views`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::view::Definition;
use serde::Serialize;
use service_kit::Health;

use crate::metrics::Metrics;

/// What this projector does about a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not come to it yet.
    Starting,
    /// It folds the view.
    Active,
    /// Another projector folds it; this one waits to take over.
    Standby,
    /// Something passing is wrong; it tries again shortly.
    Retrying,
    /// Something is wrong that a person has to look at; it looks again every few seconds.
    Stopped,
}

/// All views, and the log that they are folded from.
pub struct Status {
    views: Vec<Arc<ViewStatus>>,
    metrics: Metrics,
    /// As it was last seen.
    head: Mutex<Option<u64>>,
}

impl Status {
    /// Every view gets a health check of its own, failing until the view is folded or on standby.
    pub fn new(definitions: &'static [Definition], health: &Health) -> Self {
        let metrics = Metrics::new();
        let view = |definition: &'static Definition| {
            let check = format!("view {}", definition.name);
            health.fail(&check, "starting");
            Arc::new(ViewStatus {
                definition,
                check,
                health: health.clone(),
                metrics: metrics.clone(),
                now: Mutex::new(Now::default()),
            })
        };
        Self {
            views: definitions.iter().map(view).collect(),
            metrics: metrics.clone(),
            head: Mutex::new(None),
        }
    }

    pub fn views(&self) -> &[Arc<ViewStatus>] {
        &self.views
    }

    pub fn saw_head(&self, position: u64) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
        self.metrics.head(position);
    }

    /// Called at regular times: makes rates of what was counted in between.
    pub fn measure(&self, elapsed: Duration) {
        self.views.iter().for_each(|view| view.lock().measure(elapsed));
    }

    /// What `GET /views` answers.
    pub fn report(&self) -> Vec<ViewReport> {
        let head = *self.head.lock().unwrap_or_else(PoisonError::into_inner);
        self.views.iter().map(|view| view.report(head)).collect()
    }
}

/// One view, as this projector sees it.
pub struct ViewStatus {
    definition: &'static Definition,
    check: String,
    health: Health,
    metrics: Metrics,
    now: Mutex<Now>,
}

struct Now {
    state: State,
    position: Option<u64>,
    events_since_measured: u64,
    events_per_second: f64,
    last_error: Option<(String, Instant)>,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            state: State::Starting,
            position: None,
            events_since_measured: 0,
            events_per_second: 0.0,
            last_error: None,
        }
    }
}

impl Now {
    fn measure(&mut self, elapsed: Duration) {
        self.events_per_second = self.events_since_measured as f64 / elapsed.as_secs_f64();
        self.events_since_measured = 0;
    }
}

/// A view in the answer of `GET /views`.
#[derive(Debug, Serialize)]
pub struct ViewReport {
    pub view: &'static str,
    pub version: i32,
    pub state: State,
    /// Up to where the view is folded; `null` until that is known.
    pub position: Option<u64>,
    /// The end of the log as it was last seen, about a second ago; `null` until it was.
    pub head: Option<u64>,
    /// Events in the log that are not yet in the view.
    pub lag: Option<u64>,
    pub events_per_second: f64,
    /// What last went wrong, even if it is well again (then `state` says so).
    pub last_error: Option<String>,
    pub last_error_seconds_ago: Option<u64>,
}

impl ViewStatus {
    pub fn active(&self, position: u64) {
        if self.enter(State::Active, position) {
            tracing::info!(view = self.definition.name, position, "folding the view");
        }
    }

    pub fn standby(&self, position: u64) {
        if self.enter(State::Standby, position) {
            tracing::info!(
                view = self.definition.name,
                position,
                "another projector folds the view; waiting"
            );
        }
    }

    pub fn committed(&self, position: u64, events: u64, took: Duration) {
        self.metrics.batch(self.definition.name, events, took);
        self.metrics.position(self.definition.name, position);
        let mut now = self.lock();
        now.position = Some(position);
        now.events_since_measured += events;
    }

    /// `reason` is the whole chain of causes. It is logged when it is news.
    pub fn failed(&self, reason: String, is_lasting: bool) {
        let view = self.definition.name;
        let state = if is_lasting { State::Stopped } else { State::Retrying };
        self.health.fail(&self.check, reason.clone());
        let mut now = self.lock();
        let is_known = now.state == state && now.last_error.as_ref().is_some_and(|(last, _)| *last == reason);
        match (is_known, is_lasting) {
            (true, _) => {}
            (false, true) => tracing::error!(view, reason, "the view is stopped"),
            (false, false) => tracing::warn!(view, reason, "folding the view was interrupted; trying again"),
        }
        now.state = state;
        now.last_error = Some((reason, Instant::now()));
    }

    /// Whether the state is another one now.
    fn enter(&self, state: State, position: u64) -> bool {
        self.health.pass(&self.check);
        self.metrics.position(self.definition.name, position);
        let mut now = self.lock();
        now.position = Some(position);
        std::mem::replace(&mut now.state, state) != state
    }

    fn report(&self, head: Option<u64>) -> ViewReport {
        let now = self.lock();
        ViewReport {
            view: self.definition.name,
            version: self.definition.version,
            state: now.state,
            position: now.position,
            head,
            lag: head.zip(now.position).map(|(head, position)| head.saturating_sub(position)),
            events_per_second: now.events_per_second,
            last_error: now.last_error.as_ref().map(|(reason, _)| reason.clone()),
            last_error_seconds_ago: now.last_error.as_ref().map(|(_, at)| at.elapsed().as_secs()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Each use leaves it whole, so a panic elsewhere while it was held does no harm.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> (Health, Status) {
        let health = Health::default();
        let status = Status::new(&domain::views::ALL[..1], &health);
        (health, status)
    }

    #[test]
    fn a_view_is_not_ready_until_it_is_folded_or_on_standby() {
        let (health, status) = accounts();
        assert_eq!(health.failing(), ["view accounts: starting"]);
        status.views()[0].standby(7);
        assert!(health.failing().is_empty());
        status.views()[0].failed("Postgres is gone".into(), false);
        assert_eq!(health.failing(), ["view accounts: Postgres is gone"]);
        status.views()[0].active(7);
        assert!(health.failing().is_empty());
    }

    #[test]
    fn lag_is_what_the_log_holds_beyond_the_view() {
        let (_, status) = accounts();
        assert_eq!(status.report()[0].lag, None);
        status.saw_head(10);
        status.views()[0].active(7);
        assert_eq!(status.report()[0].lag, Some(3));
        status.views()[0].committed(12, 5, Duration::ZERO);
        assert_eq!(status.report()[0].lag, Some(0), "the view is ahead of what was seen of the log");
    }

    #[test]
    fn the_last_error_stays_to_be_read_after_the_view_is_well_again() {
        let (_, status) = accounts();
        status.views()[0].failed("Postgres is gone".into(), false);
        status.views()[0].active(7);
        let report = &status.report()[0];
        assert_eq!((report.state, report.last_error.as_deref()), (State::Active, Some("Postgres is gone")));
    }
}
