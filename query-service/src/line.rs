//! Statements that are with Postgres or wait for a connection: no more than it answers soon. One more is refused at once,
//! rather than after a wait that was in vain.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use service_kit::load::Room;

use crate::config::Bounds;

/// So long may a statement take altogether while Postgres has all that it can do.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How fast Postgres is, is looked at over so long a time.
const WINDOW: Duration = Duration::from_millis(50);
/// For each connection there is always room for one statement and so many that wait for it: with less, connections would
/// be idle in the moment between two, and Postgres would seem slower than it is.
const WAITING_MIN: usize = 3;

pub struct Line {
    connections: usize,
    under_way: AtomicUsize,
    room: Room,
    window: Mutex<Window>,
}

struct Window {
    since: Instant,
    answered: usize,
    /// There was a connection that had nothing to do, so Postgres could have answered more.
    was_idle: bool,
}

impl Window {
    fn begin() -> Self {
        Self { since: Instant::now(), answered: 0, was_idle: false }
    }
}

impl Line {
    pub fn new(bounds: &Bounds) -> Self {
        let connections = bounds.pool_size as usize;
        Self {
            connections,
            under_way: AtomicUsize::new(0),
            room: Room::new(WAIT_MAX, connections * (1 + WAITING_MIN), bounds.max_in_flight as usize),
            window: Mutex::new(Window::begin()),
        }
    }

    /// A place; `None` if there is no room for another statement.
    pub fn join(&self) -> Option<Place<'_>> {
        let others = self.under_way.fetch_add(1, Relaxed);
        // It leaves again at once if there is no room.
        let place = Place(self);
        (others < self.room.now()).then_some(place)
    }

    /// One of those in the line, which is about to leave it.
    fn answered(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.answered += 1;
        window.was_idle |= self.under_way.load(Relaxed) <= self.connections;
        let took = window.since.elapsed();
        if took >= WINDOW {
            match window.was_idle {
                false => self.room.done(window.answered, took),
                true => self.room.idle(),
            }
            *window = Window::begin();
        }
    }
}

/// In the line, until it is dropped.
pub struct Place<'a>(&'a Line);

impl Place<'_> {
    /// Leaves with an answer of Postgres.
    pub fn answered(self) {
        self.0.answered();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Config {
        #[command(flatten)]
        bounds: Bounds,
    }

    /// Two connections, so that there is always room for eight, and never for more than a hundred.
    fn line() -> Line {
        let Config { bounds } =
            Config::parse_from(["query-service", "--pool-size", "2", "--max-in-flight", "100"]);
        Line::new(&bounds)
    }

    fn join(line: &Line, count: usize) -> Vec<Place<'_>> {
        (0..count).map_while(|_| line.join()).collect()
    }

    /// As if the window had begun so long ago.
    fn age(line: &Line, by: Duration) {
        line.window.lock().unwrap().since -= by;
    }

    #[test]
    fn there_is_room_until_postgres_is_known_to_be_slow_and_some_even_then() {
        let line = line();
        let mut places = join(&line, 200);
        assert_eq!(places.len(), 100);
        for _ in 0..40 {
            // One answer in ten seconds.
            age(&line, Duration::from_secs(10));
            places.pop().unwrap().answered();
            places.extend(join(&line, 1));
        }
        places.clear();
        assert_eq!(join(&line, 200).len(), 8);
    }

    #[test]
    fn what_has_little_to_do_has_room_again() {
        let line = line();
        let mut places = join(&line, 200);
        for _ in 0..40 {
            age(&line, Duration::from_secs(10));
            places.pop().unwrap().answered();
            places.extend(join(&line, 1));
        }
        drop(places);
        for _ in 0..40 {
            age(&line, Duration::from_secs(10));
            join(&line, 1).into_iter().for_each(Place::answered);
        }
        assert!(join(&line, 200).len() > 90);
    }

    #[test]
    fn what_has_little_to_do_says_nothing_about_how_fast_it_is() {
        let line = line();
        for _ in 0..40 {
            let mut places = join(&line, 2);
            age(&line, Duration::from_secs(10));
            places.pop().unwrap().answered();
        }
        assert_eq!(join(&line, 200).len(), 100);
    }

    #[test]
    fn who_leaves_makes_room_with_or_without_an_answer() {
        let line = line();
        drop(join(&line, 200));
        join(&line, 200).into_iter().for_each(Place::answered);
        assert_eq!(line.under_way.load(Relaxed), 0);
    }
}
