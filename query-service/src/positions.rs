//! How far each view is folded, as far as this replica has heard. Only a hint for when to read: whether an
//! answer is fresh enough is decided by the position in its own snapshot.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::sync::{Notify, watch};

pub struct Positions {
    views: RwLock<HashMap<Arc<str>, watch::Sender<i64>>>,
    waiting: AtomicU32,
    waiting_max: u32,
    arrived: Notify,
}

impl Positions {
    pub fn new(waiting_max: u32) -> Self {
        Self { views: RwLock::default(), waiting: AtomicU32::new(0), waiting_max, arrived: Notify::new() }
    }

    /// From now on exactly these views are known.
    pub fn track<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *views);
        *views = names
            .into_iter()
            .map(|name| (name.clone(), before.remove(name).unwrap_or_else(|| watch::Sender::new(0))))
            .collect();
    }

    /// The view is folded at least up to `position`. Late news is no news.
    pub fn advance(&self, view: &str, position: i64) {
        self.update(view, |known| position > *known, position);
    }

    /// The view starts again from `position`, which may be lower.
    pub fn reset(&self, view: &str, position: i64) {
        self.update(view, |known| position != *known, position);
    }

    fn update(&self, view: &str, is_news: impl Fn(&i64) -> bool, position: i64) {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = views.get(view) {
            known.send_if_modified(|known| {
                let news = is_news(known);
                if news {
                    *known = position;
                }
                news
            });
        }
    }

    /// Follows one view; `None` if it is not in the catalog.
    pub fn follow(&self, view: &str) -> Option<watch::Receiver<i64>> {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        views.get(view).map(watch::Sender::subscribe)
    }

    /// Every view's position.
    pub fn each(&self, mut tell: impl FnMut(&Arc<str>, i64)) {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        views.iter().for_each(|(view, position)| tell(view, *position.borrow()));
    }

    /// A place among those who wait; `None` if there are too many of them. While anyone waits, the watcher
    /// reads the checkpoints often, so that nobody depends on signals alone.
    pub fn wait(&self) -> Option<Waiting<'_>> {
        let taken = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Waiting(self);
        self.arrived.notify_one();
        (taken < self.waiting_max).then_some(place)
    }

    /// Returns once somebody waits.
    pub async fn waited_for(&self) {
        while self.waiting.load(Ordering::Relaxed) == 0 {
            self.arrived.notified().await;
        }
    }
}

/// One query that waits for a position, until it is dropped.
pub struct Waiting<'a>(&'a Positions);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(positions: &Positions, view: &str) -> Option<i64> {
        positions.follow(view).map(|position| *position.borrow())
    }

    #[test]
    fn a_position_only_moves_forward_until_a_reset() {
        let positions = Positions::new(1);
        positions.track(&["orders".into()]);
        positions.advance("orders", 5);
        positions.advance("orders", 3);
        assert_eq!(known(&positions, "orders"), Some(5));
        positions.reset("orders", 2);
        assert_eq!(known(&positions, "orders"), Some(2));
    }

    #[test]
    fn views_outside_the_catalog_are_not_kept() {
        let positions = Positions::new(1);
        positions.track(&["orders".into(), "accounts".into()]);
        positions.advance("orders", 5);
        positions.track(&["orders".into()]);
        positions.advance("accounts", 7);
        assert_eq!((known(&positions, "orders"), known(&positions, "accounts")), (Some(5), None));
    }

    #[test]
    fn only_so_many_may_wait_at_once() {
        let positions = Positions::new(1);
        let first = positions.wait().expect("there is room");
        assert!(positions.wait().is_none());
        drop(first);
        assert!(positions.wait().is_some());
    }
}
