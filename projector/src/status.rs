//! How each view is doing, in one place for health, metrics, log lines and `GET /views`.

mod clock;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::view::Definition;
use serde::Serialize;
use service_kit::Health;

use crate::{
    metrics::Metrics,
    view::{Committed, Phase, Progress, Step},
};
use clock::Clock;

/// What this projector does about a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not come to it yet.
    Starting,
    /// It folds the view.
    Active,
    /// It folds a new build, which is not read yet.
    Rebuilding,
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
    /// Every view gets a health check of its own, failing until the view is folded or on standby, and while it
    /// makes no progress for `stalled_after` although events wait.
    pub fn new(
        definitions: &[&'static Definition],
        health: &Health,
        me: &Arc<str>,
        stalled_after: Duration,
    ) -> Self {
        let metrics = Metrics::new();
        let view = |definition: &&'static Definition| {
            let check = format!("view {}", definition.name);
            health.fail(&check, "starting");
            Arc::new(ViewStatus {
                definition,
                check,
                health: health.clone(),
                metrics: metrics.clone(),
                me: me.clone(),
                stalled_after,
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

    /// Called at regular times: what the end of the log is, if it could be looked at, and how much time has
    /// gone by since the last call.
    pub fn measure(&self, head: Option<u64>, elapsed: Duration) {
        let mut known = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        *known = head.or(*known);
        if let Some(head) = *known {
            self.metrics.head(head);
        }
        self.views.iter().for_each(|view| view.measure(*known, elapsed));
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
    me: Arc<str>,
    stalled_after: Duration,
    now: Mutex<Now>,
}

struct Now {
    state: State,
    build: Option<i32>,
    position: Option<u64>,
    /// Who folds the view, if it is known.
    folded_by: Option<String>,
    rebuild: Option<Rebuilding>,
    quarantined: usize,
    clock: Clock,
    events_since_measured: u64,
    events_per_second: f64,
    last_error: Option<(String, Instant)>,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            state: State::Starting,
            build: None,
            position: None,
            folded_by: None,
            rebuild: None,
            quarantined: 0,
            clock: Clock::start(),
            events_since_measured: 0,
            events_per_second: 0.0,
            last_error: None,
        }
    }
}

impl Now {
    fn moved(&mut self, position: u64) {
        if self.position != Some(position) {
            self.clock.progressed();
        }
        self.position = Some(position);
    }

    fn lag(&self, head: Option<u64>) -> Option<u64> {
        head.zip(self.position).map(|(head, position)| head.saturating_sub(position))
    }
}

/// A view in the answer of `GET /views`.
#[derive(Debug, Serialize)]
pub struct ViewReport {
    pub view: &'static str,
    /// The version that this program folds.
    pub version: i32,
    pub state: State,
    /// The build that this projector folds, if it does.
    pub build: Option<i32>,
    /// The projector that folds the view, as far as is known.
    pub active_projector: Option<String>,
    /// Up to where the view is folded; `null` until that is known.
    pub position: Option<u64>,
    /// The end of the log as it was last seen, about a second ago; `null` until it was.
    pub head: Option<u64>,
    /// Events in the log that are not yet in the view.
    pub lag: Option<u64>,
    /// For how long, at the most, the oldest of them has waited.
    pub lag_seconds: Option<f64>,
    /// Events wait, and the view has made no progress for the time that is configured.
    pub is_stalled: bool,
    pub events_per_second: f64,
    /// Keys in quarantine, where this projector folds the view.
    pub quarantined: usize,
    /// The new build that is being folded here.
    pub rebuild: Option<RebuildReport>,
    /// What last went wrong, even if it is well again (then `state` says so).
    pub last_error: Option<String>,
    pub last_error_seconds_ago: Option<u64>,
}

/// How far a rebuild has come.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RebuildReport {
    #[serde(flatten)]
    pub progress: Progress,
    pub events_per_second: f64,
    /// Until the end of the log is reached, at this rate.
    pub seconds_left: Option<f64>,
}

struct Rebuilding {
    progress: Progress,
    /// Where it began, and when.
    from: (u64, Instant),
}

impl Rebuilding {
    fn report(&self) -> RebuildReport {
        let Progress { phase, position, head, .. } = self.progress;
        let (from, at) = self.from;
        let rate = position.saturating_sub(from) as f64 / at.elapsed().as_secs_f64().max(0.001);
        let left = head.saturating_sub(position) as f64;
        let is_known = rate > 0.0 && matches!(phase, Phase::Folding | Phase::Verifying);
        RebuildReport {
            progress: self.progress,
            events_per_second: rate,
            seconds_left: is_known.then(|| left / rate),
        }
    }
}

impl ViewStatus {
    pub fn active(&self, build: i32, committed: &Committed) {
        let position = committed.position;
        if self.enter(State::Active, position, Some(self.me.to_string()), Some(build)) {
            tracing::info!(view = self.definition.name, build, position, "folding the view");
        }
    }

    pub fn standby(&self, position: u64, folded_by: Option<String>) {
        self.quarantined(0);
        if self.enter(State::Standby, position, folded_by, None) {
            let view = self.definition.name;
            tracing::info!(view, position, "another projector folds the view; waiting");
        }
    }

    /// A newer program folds the view. That is told as an error, so health stays as it is.
    pub fn outdated(&self, position: u64, folded_by: Option<String>) {
        self.quarantined(0);
        let mut now = self.lock();
        now.moved(position);
        (now.folded_by, now.build, now.rebuild) = (folded_by, None, None);
    }

    pub fn committed(&self, step: &Step) {
        let Step { committed, events, took, .. } = step;
        self.metrics.batch(self.definition.name, *events, *took);
        self.metrics.position(self.definition.name, committed.position);
        let mut now = self.lock();
        now.moved(committed.position);
        now.clock.folded(committed.time);
        now.events_since_measured += events;
    }

    pub fn quarantined(&self, keys: usize) {
        self.metrics.quarantined(self.definition.name, keys);
        self.lock().quarantined = keys;
    }

    pub fn rebuilding(&self, progress: Progress) {
        self.health.pass(&self.check);
        let mut now = self.lock();
        let before = now.rebuild.take().filter(|before| {
            (before.progress.build, before.progress.phase) == (progress.build, progress.phase)
        });
        if before.is_none() {
            let Progress { build, phase, position, head } = progress;
            tracing::info!(view = self.definition.name, build, ?phase, position, head, "rebuilding the view");
        }
        let from = before.map_or((progress.position, Instant::now()), |before| before.from);
        now.rebuild = Some(Rebuilding { progress, from });
        now.state = State::Rebuilding;
        now.build = Some(progress.build);
        now.clock.progressed();
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
    fn enter(&self, state: State, position: u64, folded_by: Option<String>, build: Option<i32>) -> bool {
        self.metrics.position(self.definition.name, position);
        let mut now = self.lock();
        now.moved(position);
        (now.folded_by, now.build, now.rebuild) = (folded_by, build, None);
        if !now.clock.is_stalled() {
            self.health.pass(&self.check);
        }
        std::mem::replace(&mut now.state, state) != state
    }

    fn measure(&self, head: Option<u64>, elapsed: Duration) {
        let view = self.definition.name;
        let mut now = self.lock();
        now.events_per_second = now.events_since_measured as f64 / elapsed.as_secs_f64();
        now.events_since_measured = 0;
        let Some(lag) = now.lag(head) else { return };
        let was_stalled = now.clock.is_stalled();
        let is_stalled = now.clock.look(lag > 0, self.stalled_after);
        self.metrics.lag(view, if lag == 0 { Duration::ZERO } else { now.clock.lag() });
        self.metrics.stalled(view, is_stalled);
        if is_stalled {
            let error =
                now.last_error.as_ref().map_or(String::new(), |(error, _)| format!("; last error: {error}"));
            let seconds = now.clock.without_progress().as_secs();
            let reason = format!("stalled: no progress for {seconds} s while {lag} events wait{error}");
            if !was_stalled {
                tracing::error!(view, lag, reason, "the view is stalled");
            }
            self.health.fail(&self.check, reason);
        } else if was_stalled && matches!(now.state, State::Active | State::Standby) {
            tracing::info!(view, lag, "the view makes progress again");
            self.health.pass(&self.check);
        }
    }

    fn report(&self, head: Option<u64>) -> ViewReport {
        let now = self.lock();
        ViewReport {
            view: self.definition.name,
            version: self.definition.version,
            state: now.state,
            build: now.build,
            active_projector: now.folded_by.clone(),
            position: now.position,
            head,
            lag: now.lag(head),
            lag_seconds: now.lag(head).map(|lag| if lag == 0 { 0.0 } else { now.clock.lag().as_secs_f64() }),
            is_stalled: now.clock.is_stalled(),
            events_per_second: now.events_per_second,
            quarantined: now.quarantined,
            rebuild: now.rebuild.as_ref().map(Rebuilding::report),
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

    fn accounts(stalled_after: Duration) -> (Health, Status) {
        let health = Health::default();
        let views: Vec<&'static Definition> = domain::views::ALL[..1].iter().collect();
        let status = Status::new(&views, &health, &"here".into(), stalled_after);
        (health, status)
    }

    fn committed(position: u64) -> Committed {
        Committed { position, changes: None, time: None }
    }

    fn step(position: u64) -> Step {
        Step { committed: committed(position), events: 5, took: Duration::ZERO, spans: None }
    }

    const SOON: Duration = Duration::ZERO;
    const LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn a_view_is_not_ready_until_it_is_folded_or_on_standby() {
        let (health, status) = accounts(LATE);
        assert_eq!(health.failing(), ["view accounts: starting"]);
        status.views()[0].standby(7, None);
        assert!(health.failing().is_empty());
        status.views()[0].failed("Postgres is gone".into(), false);
        assert_eq!(health.failing(), ["view accounts: Postgres is gone"]);
        status.views()[0].active(1, &committed(7));
        assert!(health.failing().is_empty());
    }

    #[test]
    fn lag_is_what_the_log_holds_beyond_the_view() {
        let (_, status) = accounts(LATE);
        assert_eq!(status.report()[0].lag, None);
        status.measure(Some(10), SOON);
        status.views()[0].active(1, &committed(7));
        assert_eq!(status.report()[0].lag, Some(3));
        status.views()[0].committed(&step(12));
        assert_eq!(status.report()[0].lag, Some(0), "the view is ahead of what was seen of the log");
        assert_eq!(status.report()[0].lag_seconds, Some(0.0));
    }

    #[test]
    fn a_view_without_progress_is_stalled_only_while_events_wait() {
        let (health, status) = accounts(SOON);
        status.views()[0].active(1, &committed(7));
        status.measure(Some(7), SOON);
        assert!(health.failing().is_empty() && !status.report()[0].is_stalled);
        status.measure(Some(8), SOON);
        let failing = health.failing();
        assert!(
            failing[0].contains("accounts: stalled") && failing[0].contains("1 events wait"),
            "{failing:?}"
        );
        // On standby as well: nobody folds it.
        status.views()[0].standby(7, None);
        assert!(!health.failing().is_empty() && status.report()[0].is_stalled);
        status.views()[0].committed(&step(8));
        status.measure(Some(8), SOON);
        assert!(health.failing().is_empty() && !status.report()[0].is_stalled);
    }

    #[test]
    fn the_last_error_stays_to_be_read_after_the_view_is_well_again() {
        let (_, status) = accounts(LATE);
        status.views()[0].failed("Postgres is gone".into(), false);
        status.views()[0].active(1, &committed(7));
        let report = &status.report()[0];
        assert_eq!((report.state, report.last_error.as_deref()), (State::Active, Some("Postgres is gone")));
        assert_eq!(report.active_projector.as_deref(), Some("here"));
    }

    #[test]
    fn a_rebuild_tells_how_far_it_is() {
        let (_, status) = accounts(LATE);
        let progress = |position| Progress { build: 2, phase: Phase::Folding, position, head: 100 };
        status.views()[0].rebuilding(progress(0));
        status.views()[0].rebuilding(progress(50));
        let report = &status.report()[0];
        assert_eq!((report.state, report.build), (State::Rebuilding, Some(2)));
        let rebuild = report.rebuild.unwrap();
        assert!(rebuild.progress.position == 50 && rebuild.seconds_left.is_some(), "{rebuild:?}");
    }
}
