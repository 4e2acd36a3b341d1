//! How many may wait for what is done one after the other: so many that each is done soon, by what is done in a second
//! when there is enough to do. A queue of a fixed length is as long in time as whoever serves it is slow.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// The room of a queue.
pub struct Room {
    /// So long may one wait.
    wait: Duration,
    min: usize,
    max: usize,
    now: AtomicUsize,
}

impl Room {
    /// There is room for `max` until it is known how fast they are done; never for fewer than `min`.
    pub fn new(wait: Duration, min: usize, max: usize) -> Self {
        Self { wait, min: min.min(max), max, now: AtomicUsize::new(max) }
    }

    /// How many there is room for now.
    pub fn now(&self) -> usize {
        self.now.load(Relaxed)
    }

    /// So many were done in this time, at the end of which more were waiting: it could be no more.
    pub fn done(&self, count: usize, took: Duration) {
        // (A time of nothing gives all the room there is.)
        self.go_towards(count as f64 * self.wait.as_secs_f64() / took.as_secs_f64());
    }

    /// There was less to do than could be done, so nobody waits for long, and what was slow need not be so any more.
    pub fn idle(&self) {
        self.go_towards(self.max as f64);
    }

    /// Once it may be quick or slow by chance.
    fn go_towards(&self, room: f64) {
        let room = (self.now() as f64 * 3.0 + room) / 4.0;
        self.now.store((room as usize).clamp(self.min, self.max), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(decided: &[(usize, u64)]) -> usize {
        let room = Room::new(Duration::from_millis(50), 100, 8000);
        for &(count, millis) in decided {
            room.done(count, Duration::from_millis(millis));
        }
        room.now()
    }

    #[test]
    fn there_is_room_for_what_is_decided_in_time() {
        assert_eq!(after(&[]), 8000);
        let settled = after(&[(200, 10); 40]);
        assert!((990..=1010).contains(&settled), "{settled}");
    }

    #[test]
    fn who_has_little_to_do_has_room_for_what_comes() {
        let room = Room::new(Duration::from_millis(50), 100, 8000);
        (0..40).for_each(|_| room.done(1, Duration::from_secs(5)));
        room.idle();
        assert_eq!(room.now(), 2075);
        (0..40).for_each(|_| room.idle());
        assert!(room.now() > 7990);
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
