//! How many tasks may be under way: none while the services are busy, few when that ends, more and more while they
//! stay calm. A rule without I/O, asked several times a second.

use std::time::{Duration, Instant};

use serde::Serialize;

/// For so long have services that were busy to be calm before tasks go on.
const CALM_FOR: Duration = Duration::from_secs(1);
/// While they stay calm, the number of tasks doubles this often.
const RISE_EVERY: Duration = Duration::from_millis(500);

/// When to hold back, and when to go on: see the flags of these names.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// At this pressure and above, nothing is begun.
    pub busy_above: f64,
    /// Below this pressure the services are calm.
    pub calm_below: f64,
    /// Tasks under way when nothing holds them back.
    pub concurrency: usize,
}

/// What is known of the services' load.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// No service has said anything yet; it may be about to.
    Awaited,
    /// No service has said anything for a while.
    Unknown,
    Known {
        /// The largest of all services: see [`service_kit::load::LoadReport`].
        pressure: f64,
        /// Whose it is, and why.
        reason: String,
    },
}

/// How many tasks may be under way, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pace {
    pub state: State,
    /// Tasks that may be under way at once.
    pub slots: usize,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The services are busy: only tasks at their deadline are done, at a bounded rate.
    Held,
    /// More and more are done.
    Rising,
    /// As many as this worker can are done.
    Full,
    /// Nobody says how busy the services are: tasks are done at a bounded rate.
    Blind,
}

impl Pace {
    /// Before anything was heard.
    pub fn listening() -> Self {
        Self { state: State::Blind, slots: 0, reason: "no service was heard yet".into() }
    }

    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }
}

/// Turns load into pace.
pub struct Controller {
    thresholds: Thresholds,
    slots: usize,
    /// A service was busy since tasks were last begun.
    was_busy: bool,
    /// Since when the services have been calm.
    calm_since: Option<Instant>,
    rose_at: Instant,
}

impl Controller {
    pub fn new(thresholds: Thresholds, now: Instant) -> Self {
        Self { thresholds, slots: 0, was_busy: false, calm_since: None, rose_at: now }
    }

    pub fn pace(&mut self, load: &Load, now: Instant) -> Pace {
        let (pressure, reason) = match load {
            Load::Known { pressure, reason } => (pressure, reason),
            Load::Awaited => return Pace::listening(),
            Load::Unknown => {
                // What comes after is not known either: begin from below.
                (self.slots, self.calm_since) = (0, None);
                let reason = "no service says how busy it is".into();
                return Pace { state: State::Blind, slots: 0, reason };
            }
        };
        self.follow(*pressure, now);
        let state = match self.slots {
            0 => State::Held,
            slots if slots < self.thresholds.concurrency => State::Rising,
            _ => State::Full,
        };
        Pace { state, slots: self.slots, reason: reason.clone() }
    }

    fn follow(&mut self, pressure: f64, now: Instant) {
        if pressure >= self.thresholds.busy_above {
            (self.slots, self.was_busy, self.calm_since) = (0, true, None);
            return;
        }
        if pressure >= self.thresholds.calm_below {
            // In between, what goes on goes on as it is.
            self.calm_since = None;
            return;
        }
        let calm_since = *self.calm_since.get_or_insert(now);
        let may_rise = match self.slots {
            0 => !self.was_busy || now.duration_since(calm_since) >= CALM_FOR,
            _ => now.duration_since(self.rose_at) >= RISE_EVERY,
        };
        if may_rise {
            self.slots = (self.slots * 2).clamp(1, self.thresholds.concurrency);
            (self.was_busy, self.rose_at) = (false, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { busy_above: 0.8, calm_below: 0.6, concurrency: 16 };
    const TICK: Duration = Duration::from_millis(100);

    struct Played {
        controller: Controller,
        now: Instant,
    }

    impl Played {
        fn new() -> Self {
            let now = Instant::now();
            Self { controller: Controller::new(THRESHOLDS, now), now }
        }

        /// The paces of so many ticks under one pressure.
        fn under(&mut self, pressure: f64, ticks: usize) -> Vec<usize> {
            let load = Load::Known { pressure, reason: "test".into() };
            let tick = |_| {
                self.now += TICK;
                self.controller.pace(&load, self.now).slots
            };
            (0..ticks).map(tick).collect()
        }

        fn last(&mut self, pressure: f64, ticks: usize) -> usize {
            *self.under(pressure, ticks).last().unwrap()
        }
    }

    #[test]
    fn a_calm_service_lets_tasks_rise_to_all_that_can_be_done() {
        let mut played = Played::new();
        let slots = played.under(0.1, 60);
        assert_eq!((slots.first(), slots.last()), (Some(&1), Some(&16)));
        let steps: Vec<usize> =
            slots.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[1]).collect();
        assert_eq!(steps, [2, 4, 8, 16]);
    }

    #[test]
    fn a_busy_service_stops_them_at_once() {
        let mut played = Played::new();
        played.under(0.1, 60);
        assert_eq!(played.last(0.8, 1), 0);
        assert_eq!(played.under(0.1, 10), [0; 10], "nothing before it was calm for a while");
        assert_eq!(played.last(0.1, 1), 1);
    }

    #[test]
    fn between_the_thresholds_what_goes_on_goes_on_and_what_is_held_stays_held() {
        let mut played = Played::new();
        played.under(0.1, 12);
        let slots = played.last(0.1, 1);
        assert!((1..16).contains(&slots));
        assert_eq!(played.under(0.7, 100), [slots; 100]);
        played.under(0.9, 1);
        assert_eq!(played.last(0.7, 100), 0);
    }

    #[test]
    fn a_flicker_of_calm_does_not_let_them_go() {
        let mut played = Played::new();
        played.under(0.9, 1);
        for _ in 0..20 {
            assert_eq!(played.last(0.1, 9), 0);
            assert_eq!(played.last(0.7, 1), 0);
        }
    }

    #[test]
    fn who_hears_nothing_begins_from_below() {
        let mut played = Played::new();
        played.under(0.1, 60);
        let blind = played.controller.pace(&Load::Unknown, played.now);
        assert_eq!((blind.state, blind.slots), (State::Blind, 0));
        assert_eq!(played.last(0.1, 5), 1);
    }
}
