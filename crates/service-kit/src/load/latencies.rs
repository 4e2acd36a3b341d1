//! How long answers took, counted by classes of time, so that counting one is a single addition.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Each doubling of time has so many classes: what is told is at most an eighth more than what was measured.
const CLASSES_A_DOUBLING: u64 = 8;
/// From 1 µs to a minute, longer than any request is let be.
const CLASSES: usize = 192;

/// Counts of answers by the time they took. They only grow.
pub struct Latencies([AtomicU64; CLASSES]);

/// The counts at one moment, or what was added to them between two.
#[derive(Clone)]
pub struct Counts([u64; CLASSES]);

impl Latencies {
    pub fn new() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }

    pub fn count(&self, took: Duration) {
        self.0[class(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        Counts(array::from_fn(|class| self.0[class].load(Ordering::Relaxed)))
    }
}

impl Counts {
    pub fn since(&self, earlier: &Self) -> Self {
        Self(array::from_fn(|class| self.0[class].saturating_sub(earlier.0[class])))
    }

    /// The time that 99 of 100 kept to. Of fewer than 100 the slowest is left out, because one slow answer is an
    /// accident and tells nothing of the load; so of a single one nothing is told, which is zero.
    pub fn p99(&self) -> Duration {
        let mut left = self.0.iter().sum::<u64>() * 99 / 100;
        if left == 0 {
            return Duration::ZERO;
        }
        let last = self.0.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        end(last.unwrap_or(CLASSES - 1))
    }
}

fn class(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let doublings = micros.max(1).ilog2().saturating_sub(CLASSES_A_DOUBLING.ilog2());
    let class = u64::from(doublings) * CLASSES_A_DOUBLING + (micros >> doublings);
    usize::try_from(class).unwrap_or(CLASSES).min(CLASSES - 1)
}

/// No time in the class is longer.
fn end(class: usize) -> Duration {
    let class = class as u64;
    let doublings = (class / CLASSES_A_DOUBLING).saturating_sub(1);
    let steps = class - doublings * CLASSES_A_DOUBLING;
    Duration::from_micros((steps + 1) << doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p99(times_ms: impl IntoIterator<Item = u64>) -> f64 {
        let latencies = Latencies::new();
        times_ms.into_iter().for_each(|ms| latencies.count(Duration::from_millis(ms)));
        latencies.counts().p99().as_secs_f64() * 1e3
    }

    #[test]
    fn a_time_is_told_at_most_an_eighth_too_long_and_never_too_short() {
        let mut micros = 8;
        while micros < 60_000_000 {
            let told = end(class(Duration::from_micros(micros))).as_micros() as u64;
            assert!(micros < told && told <= micros + micros / 8, "{micros} µs were told as {told}");
            micros += micros / 50 + 1;
        }
    }

    #[test]
    fn the_classes_go_on_without_a_gap() {
        for micros in 1..100_000 {
            let (this, next) =
                (class(Duration::from_micros(micros)), class(Duration::from_micros(micros + 1)));
            assert!(next == this || next == this + 1, "from {micros} µs");
        }
    }

    #[test]
    fn the_longest_time_has_a_class() {
        assert_eq!(class(Duration::MAX), CLASSES - 1);
    }

    #[test]
    fn one_in_a_hundred_may_be_slow() {
        assert!(p99([1; 99].into_iter().chain([1000])) < 1.2);
        assert!(p99([1; 98].into_iter().chain([1000; 2])) > 999.0);
    }

    #[test]
    fn of_a_few_the_slowest_is_left_out() {
        assert!(p99([1000]) == 0.0);
        assert!(p99([1, 1000]) < 1.2);
        assert!(p99([1000, 1000]) > 999.0);
    }

    #[test]
    fn what_came_before_is_not_told_again() {
        let latencies = Latencies::new();
        (0..100).for_each(|_| latencies.count(Duration::from_secs(1)));
        let before = latencies.counts();
        (0..100).for_each(|_| latencies.count(Duration::from_millis(1)));
        assert!(latencies.counts().since(&before).p99() < Duration::from_millis(2));
    }
}
