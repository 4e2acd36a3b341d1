//! Who waits for one of a few connections: no more than get one soon.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use service_kit::load::Room;

/// How fast turns go by is looked at this often, while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub struct Turns {
    room: Room,
    /// Turns at the same time; whoever is beyond them waits.
    at_once: usize,
    taken: AtomicUsize,
    busy: Mutex<Busy>,
}

/// A time in which somebody waited.
struct Busy {
    since: Instant,
    over: usize,
}

/// Ends when it is dropped.
pub struct Turn<'a>(&'a Turns);

impl Turns {
    pub fn new(at_once: usize, max: usize) -> Self {
        let busy = Busy { since: Instant::now(), over: 0 };
        // However slow they are, each connection has a few waiting for it.
        let room = Room::new(4 * at_once, max);
        Self { room, at_once, taken: AtomicUsize::new(0), busy: Mutex::new(busy) }
    }

    /// None, if too many have one or wait for one already.
    pub fn take(&self) -> Option<Turn<'_>> {
        let others = self.taken.fetch_add(1, Relaxed);
        if others >= self.room.now() {
            self.taken.fetch_sub(1, Relaxed);
            return None;
        }
        if others == self.at_once {
            // The first to wait.
            *self.busy() = Busy { since: Instant::now(), over: 0 };
        }
        Some(Turn(self))
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        // Each use leaves it whole.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) {
        let left = self.taken.fetch_sub(1, Relaxed) - 1;
        if left < self.at_once {
            return;
        }
        let mut busy = self.busy();
        busy.over += 1;
        let took = busy.since.elapsed();
        if took >= LOOK_EVERY {
            self.room.served(busy.over, took);
            *busy = Busy { since: Instant::now(), over: 0 };
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_turns_as_there_is_room_for_and_fewer_where_they_are_slow() {
        let turns = Turns::new(2, 10);
        let mut taken: Vec<Turn<'_>> = (0..10).map(|_| turns.take().unwrap()).collect();
        assert!(turns.take().is_none());
        std::thread::sleep(LOOK_EVERY * 2);
        taken.pop();
        // One in a tenth of a second: four for each connection are left, and nine are taken.
        assert!(turns.take().is_none());
        taken.drain(..2);
        assert!(turns.take().is_some());
    }
}
