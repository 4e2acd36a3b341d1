//! How fast refusals are answered. One costs a good part of what an answer does, and whoever does not listen when told to
//! wait is refused again as soon as he has been: thousands of them would take the processors of those who are served.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// No refusal is held for longer, so that those who are refused are answered at least this often. With less, thousands of
/// connections are refused thousands of times a second, whatever the pace. An edge waits longer than this for the head of
/// an answer (`deploy/edge/envoy.yaml`: 6 s).
const HELD_MAX: Duration = Duration::from_secs(5);

pub struct Pace {
    /// From one to the next.
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// So many a second, or, with 0, as many as there are.
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Holds a refusal until it is its turn.
    pub async fn hold(&self) {
        let now = Instant::now();
        let turn = self.turn(now);
        if turn > now {
            sleep_until(turn).await;
        }
    }

    fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.clamp(now, now + HELD_MAX);
        *next = turn + self.interval;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds that each of so many refusals of one moment is held.
    fn held(pace: &Pace, now: Instant, count: usize) -> Vec<u128> {
        (0..count).map(|_| (pace.turn(now) - now).as_millis()).collect()
    }

    #[test]
    fn refusals_are_answered_one_after_the_other() {
        let pace = Pace::new(100);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(held(&pace, now, 4), [0, 10, 20, 30]);
        assert_eq!(held(&pace, now + Duration::from_millis(15), 2), [25, 35]);
        assert_eq!(
            held(&pace, now + Duration::from_secs(9), 2),
            [0, 10],
            "what was not used is not saved up"
        );
    }

    #[test]
    fn none_is_held_for_longer_than_five_seconds() {
        let pace = Pace::new(1);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(held(&pace, now, 8), [0, 1000, 2000, 3000, 4000, 5000, 5000, 5000]);
    }

    #[test]
    fn without_a_pace_none_is_held() {
        let pace = Pace::new(0);
        assert_eq!(held(&pace, Instant::now() + Duration::from_secs(1), 3), [0, 0, 0]);
    }
}
