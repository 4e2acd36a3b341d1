//! When to try again.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::Timestamp;

/// Doubles with each attempt from here …
const DELAY_MIN: Duration = Duration::from_secs(2);
/// … to here. Sixteen attempts, as the default is, take six hours in the mean and eleven at the most.
const DELAY_MAX: Duration = Duration::from_secs(2 * 3600);

/// While no email goes at all, the first pause and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// When a task that was tried so often is tried again: exponential backoff with full jitter, so that tasks that
/// failed together do not come back together.
pub fn next_attempt(attempts: u32, now: Timestamp) -> Timestamp {
    let delay = jittered(backoff(DELAY_MIN, DELAY_MAX, attempts));
    // A delay of hours fits, and the sum is held within what can be kept.
    Timestamp::from_micros(now.micros() + delay.as_micros() as i64).unwrap_or(now)
}

fn backoff(min: Duration, max: Duration, times: u32) -> Duration {
    min.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(max)
}

fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.0..=1.0))
}

/// Open while effects are to be had at all. When they are not, everything waits, and one task after the other tries
/// whether they are again.
#[derive(Default)]
pub struct Breaker(Mutex<Broken>);

#[derive(Default)]
struct Broken {
    /// How often in a row there were none.
    times: u32,
    until: Option<Instant>,
    reason: String,
}

/// What the breaker lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    Everything,
    /// One at a time.
    OneToTry,
    Nothing {
        reason: String,
    },
}

impl Breaker {
    pub fn flow(&self, now: Instant) -> Flow {
        let broken = self.lock();
        match broken.until {
            None => Flow::Everything,
            Some(until) if now < until => Flow::Nothing { reason: broken.reason.clone() },
            Some(_) => Flow::OneToTry,
        }
    }

    /// It works: somebody took, or refused, what was offered.
    pub fn works(&self) {
        let mut broken = self.lock();
        if broken.times > 0 {
            tracing::info!("the mail server is back");
            *broken = Broken::default();
        }
    }

    /// It does not; how long to wait. Those that fail together count once.
    pub fn fails(&self, reason: &str, now: Instant) -> Duration {
        let mut broken = self.lock();
        match broken.until {
            Some(until) if now < until => until - now,
            _ => {
                if broken.times == 0 {
                    tracing::warn!(reason, "nothing is sent for now");
                }
                broken.times += 1;
                let longest = backoff(PAUSE_MIN, PAUSE_MAX, broken.times);
                let pause = longest / 2 + jittered(longest / 2);
                broken.until = Some(now + pause);
                broken.reason = reason.to_owned();
                pause
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Broken> {
        // Each use leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_are_spread_below_it() {
        let now = Timestamp::from_micros(1_000_000_000_000_000).unwrap();
        let seconds = |attempts| {
            let delays =
                (0..1000).map(|_| (next_attempt(attempts, now).micros() - now.micros()) as f64 / 1e6);
            let delays: Vec<f64> = delays.collect();
            (delays.iter().copied().fold(f64::MAX, f64::min), delays.iter().copied().fold(0.0, f64::max))
        };
        for (attempts, bound) in [(1, 2.0), (2, 4.0), (5, 32.0), (40, 7200.0)] {
            let (shortest, longest) = seconds(attempts);
            assert!(
                longest <= bound && longest > bound * 0.9 && shortest < bound * 0.1,
                "{shortest} {longest}"
            );
        }
    }

    #[test]
    fn after_a_pause_one_task_tries_whether_it_works_again() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.flow(now), Flow::Everything);
        let pause = breaker.fails("no route", now);
        assert_eq!(breaker.flow(now), Flow::Nothing { reason: "no route".into() });
        assert_eq!(breaker.flow(now + pause), Flow::OneToTry);
        assert!(breaker.fails("no route", now + pause) >= PAUSE_MIN);
        breaker.works();
        assert_eq!(breaker.flow(now), Flow::Everything);
    }

    #[test]
    fn those_that_fail_together_count_once() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.fails("no route", now);
        }
        assert!(breaker.fails("no route", now) <= PAUSE_MIN);
    }
}
