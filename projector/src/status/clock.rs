//! When a view last moved, and how long its oldest waiting event may have waited.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::Timestamp;

pub struct Clock {
    /// When nothing waited, as was last seen.
    caught_up: Instant,
    /// When the last folded event was decided.
    decided: Option<Instant>,
    /// When the view last moved, or nothing waited.
    progressed: Instant,
    is_stalled: bool,
}

impl Clock {
    pub fn start() -> Self {
        let now = Instant::now();
        Self { caught_up: now, decided: None, progressed: now, is_stalled: false }
    }

    pub fn progressed(&mut self) {
        self.progressed = Instant::now();
    }

    /// An event that was decided at `time`, by another machine's clock, was folded.
    pub fn folded(&mut self, time: Option<Timestamp>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = time.and_then(|time| u64::try_from(time.micros()).ok()).map(Duration::from_micros);
        self.decided = time.and_then(|time| Instant::now().checked_sub(now.saturating_sub(time)));
    }

    /// Called at regular times; says whether the view is stalled: events wait, and it has not moved for `after`.
    pub fn look(&mut self, events_wait: bool, after: Duration) -> bool {
        if !events_wait {
            let now = Instant::now();
            (self.caught_up, self.progressed) = (now, now);
        }
        self.is_stalled = events_wait && self.progressed.elapsed() >= after;
        self.is_stalled
    }

    /// How long the oldest event that waits may have waited: it came after nothing waited, and after the last
    /// one that was folded.
    pub fn lag(&self) -> Duration {
        self.decided.map_or(self.caught_up, |decided| decided.max(self.caught_up)).elapsed()
    }

    pub fn without_progress(&self) -> Duration {
        self.progressed.elapsed()
    }

    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }
}
