//! The last second, as several looks at what is counted: what was added in between is what happened meanwhile. So
//! every measure is of a whole second, and none flickers from one report to the next.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{REPORT_EVERY, latencies::Counts, measures::Measures};

/// A second.
const INTERVALS: usize = (1_000 / REPORT_EVERY.as_millis()) as usize;

/// One look.
pub struct Look {
    pub at: Instant,
    /// How long a thread was busy since the start, on average over the threads.
    pub busy: Duration,
    pub latencies: Counts,
    pub shed: u64,
    /// The most requests that were under way at once since the look before.
    pub in_flight: u64,
    pub queued: u64,
}

pub struct Window {
    /// Oldest first, never empty: the first is only what the others are compared with.
    looks: VecDeque<Look>,
}

impl Window {
    pub fn from(first: Look) -> Self {
        Self { looks: VecDeque::from([first]) }
    }

    /// Goes on to this look.
    pub fn go_on(&mut self, look: Look) -> Measures {
        let first = &self.looks[self.looks.len().saturating_sub(INTERVALS)];
        // Two looks at the same moment would be infinitely apart in what they count.
        let elapsed = look.at.duration_since(first.at).max(Duration::from_millis(1)).as_secs_f64();
        let busy = look.busy.saturating_sub(first.busy).as_secs_f64();
        let p99 = look.latencies.since(&first.latencies).p99();
        let shed_per_second = look.shed.saturating_sub(first.shed) as f64 / elapsed;
        self.looks.push_back(look);
        while self.looks.len() > INTERVALS + 1 {
            self.looks.pop_front();
        }
        let within = || self.looks.iter().skip(1);
        Measures {
            utilisation: (busy / elapsed).min(1.0),
            in_flight: within().map(|look| look.in_flight).max().unwrap_or(0),
            queued: within().map(|look| look.queued).max().unwrap_or(0),
            p99,
            shed_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::latencies::Latencies;

    /// Looks at the usual times, at a service on which nothing happens by itself.
    struct Scene {
        window: Window,
        latencies: Latencies,
        start: Instant,
        looks: u32,
        busy: Duration,
        shed: u64,
    }

    impl Scene {
        fn new() -> Self {
            let (latencies, start) = (Latencies::new(), Instant::now());
            let look = look(start, Duration::ZERO, &latencies);
            Self { window: Window::from(look), latencies, start, looks: 0, busy: Duration::ZERO, shed: 0 }
        }

        fn after_a_quiet_second() -> Self {
            let mut scene = Self::new();
            for _ in 0..INTERVALS {
                scene.look(0);
            }
            scene
        }

        fn look(&mut self, in_flight: u64) -> Measures {
            self.looks += 1;
            let look = look(self.start + REPORT_EVERY * self.looks, self.busy, &self.latencies);
            self.window.go_on(Look { shed: self.shed, in_flight, ..look })
        }
    }

    fn look(at: Instant, busy: Duration, latencies: &Latencies) -> Look {
        Look { at, busy, latencies: latencies.counts(), shed: 0, in_flight: 0, queued: 0 }
    }

    #[test]
    fn a_burst_is_spread_over_a_second_and_then_forgotten() {
        let mut scene = Scene::after_a_quiet_second();
        scene.busy += REPORT_EVERY;
        for _ in 0..4 {
            assert!((scene.look(0).utilisation - 0.25).abs() < 1e-9);
        }
        assert!(scene.look(0).utilisation < 1e-9);
    }

    #[test]
    fn a_refusal_shows_at_once_and_for_a_second() {
        let mut scene = Scene::after_a_quiet_second();
        scene.shed += 1;
        for _ in 0..4 {
            assert!((scene.look(0).shed_per_second - 1.0).abs() < 1e-9);
        }
        assert!(scene.look(0).shed_per_second == 0.0);
    }

    #[test]
    fn the_most_in_flight_within_a_second_is_told() {
        let mut scene = Scene::new();
        assert_eq!(scene.look(7).in_flight, 7);
        let after = [0, 3, 0, 0].map(|in_flight| scene.look(in_flight).in_flight);
        assert_eq!(after, [7, 7, 7, 3]);
    }

    #[test]
    fn slow_answers_are_told_for_a_second() {
        let mut scene = Scene::new();
        (0..100).for_each(|_| scene.latencies.count(Duration::from_secs(1)));
        for _ in 0..4 {
            assert!(scene.look(0).p99 >= Duration::from_secs(1));
        }
        assert_eq!(scene.look(0).p99, Duration::ZERO);
    }
}
