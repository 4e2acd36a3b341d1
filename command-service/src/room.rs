//! How many commands may wait for the writer: so many that each is decided soon, by what it decides in a second when it
//! has enough to do. A queue of a fixed length is as long in time as the writer is slow.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// So long may a command wait. Longer than most clients mind, shorter than most wait before they try again.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The room of the writer's queue.
pub struct Room {
    min: usize,
    max: usize,
    now: AtomicUsize,
}

impl Room {
    /// There is room for `max` until it is known how fast the writer is; never for fewer than `min`.
    pub fn new(min: usize, max: usize) -> Self {
        Self { min: min.min(max), max, now: AtomicUsize::new(max) }
    }

    /// How many there is room for now.
    pub fn now(&self) -> usize {
        self.now.load(Relaxed)
    }

    /// The writer has decided so many in this time, at the end of which more were waiting: it could do no more.
    pub fn decided(&self, count: usize, took: Duration) {
        let in_time = count as f64 * WAIT_MAX.as_secs_f64() / took.as_secs_f64();
        // Once it may be quick or slow by chance. (A time of nothing gives all the room there is.)
        let room = (self.now() as f64 * 3.0 + in_time) / 4.0;
        self.now.store((room as usize).clamp(self.min, self.max), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(decided: &[(usize, u64)]) -> usize {
        let room = Room::new(100, 8000);
        for &(count, millis) in decided {
            room.decided(count, Duration::from_millis(millis));
        }
        room.now()
    }

    #[test]
    fn there_is_room_for_what_is_decided_in_time() {
        assert_eq!(after(&[]), 8000);
        let settled = after(&[(200, 10); 40]);
        assert!((1990..=2010).contains(&settled), "{settled}");
    }

    #[test]
    fn what_is_slow_once_takes_no_more_than_a_quarter() {
        assert_eq!(after(&[(10, 5_000)]), 6000);
    }

    #[test]
    fn however_slow_or_fast_it_is_there_are_bounds() {
        assert_eq!(after(&[(1, 5_000); 40]), 100);
        assert_eq!(after(&[(1_000, 1); 40]), 8000);
        assert_eq!(after(&[(1_000, 0)]), 8000);
    }
}
