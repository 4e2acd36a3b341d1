//! One run of unbroken hearing. Everything in it only grows, so readers need no lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::{News, SILENCE_MAX, Source, Tag, Touched, Usable};

/// Stamps a view. A tag's stamp is kept in the slot of its hash, which is that of the last tag to be touched
/// among those that share it: a shared slot makes an entry old too early, never too late. 2 MiB a view.
pub const SLOTS: usize = 1 << 18;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Term and position of the snapshot that something was read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub term: u64,
    pub position: u64,
}

/// What a timeline knows about something that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// True, and it reflects everything up to this position.
    Current(u64),
    /// Made old by what has been heard.
    Old,
    /// Nothing is known about it.
    Unknown,
}

#[derive(Debug)]
pub struct Timeline {
    id: u64,
    term: u64,
    began: Instant,
    /// Nanoseconds from `began` until the last signal; [`NEVER`] if there was none.
    heard: AtomicU64,
    seen: AtomicU64,
    /// A position that the view has reached, by whatever is known.
    known: AtomicU64,
    /// A position that somebody was shown before it was heard of.
    shown: AtomicU64,
    floor: AtomicU64,
    stamps: Box<[AtomicU64]>,
}

const NEVER: u64 = u64::MAX;

impl Timeline {
    /// One in which nothing has been heard.
    pub(super) fn silent(term: u64, known: u64) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            term,
            began: Instant::now(),
            heard: AtomicU64::new(NEVER),
            seen: AtomicU64::new(0),
            known: AtomicU64::new(known),
            shown: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            stamps: Box::default(),
        }
    }

    /// One that begins with `news`, in a term in which the view has reached `known` already.
    pub(super) fn begin(news: &News, known: u64, slots: usize, now: Instant) -> Self {
        let timeline = Self {
            began: now,
            heard: AtomicU64::new(0),
            seen: AtomicU64::new(news.position),
            floor: AtomicU64::new(news.previous.max(known)),
            stamps: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            ..Self::silent(news.term, known.max(news.position))
        };
        timeline.stamp(&news.touched, news.position);
        timeline
    }

    /// Unlike that of any other timeline of this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// A position that the view has reached in this term, whether or not a signal has said so.
    pub fn known(&self) -> u64 {
        self.known.load(Ordering::Acquire)
    }

    /// What nobody may be taken back behind who asks from now on.
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }

    pub(super) fn show(&self, position: u64) {
        if position > self.seen() {
            self.learn(position);
            self.shown.fetch_max(position, Ordering::Release);
        }
    }

    /// Whether nothing was ever heard in it.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.load(Ordering::Acquire) == NEVER
    }

    /// Whether the projector was heard within the last second.
    pub fn is_heard(&self, now: Instant) -> bool {
        let heard = self.heard.load(Ordering::Acquire);
        heard != NEVER
            && now.saturating_duration_since(self.began).as_nanos()
                <= u128::from(heard) + SILENCE_MAX.as_nanos()
    }

    #[cfg(test)]
    pub fn heard_at(&self) -> Option<Instant> {
        let heard = self.heard.load(Ordering::Acquire);
        (heard != NEVER).then(|| self.began + std::time::Duration::from_nanos(heard))
    }

    /// Up to where something with these tags, read in this timeline at `read_at`, is true now; `None` if it was
    /// made old, or nothing is known.
    pub fn reflects(&self, read_at: u64, tags: &[Tag], now: Instant) -> Option<u64> {
        if !self.is_heard(now) {
            return None;
        }
        // Stamps and floor are written before `seen`: whoever finds a position in it finds them, too.
        let seen = self.seen();
        let is_known = read_at >= self.floor.load(Ordering::Acquire);
        let is_untouched = || tags.iter().all(|&tag| self.slot(tag).load(Ordering::Acquire) <= read_at);
        (is_known && is_untouched()).then(|| seen.max(read_at))
    }

    /// The same of something just read, by whatever server.
    pub fn judge(&self, read: Read, tags: &[Tag], now: Instant) -> Verdict {
        if read.term < self.term {
            return Verdict::Old;
        }
        if read.term > self.term || !self.is_heard(now) {
            return Verdict::Unknown;
        }
        self.reflects(read.position, tags, now).map_or(Verdict::Old, Verdict::Current)
    }

    /// What may be done with it. The primary is always ahead of all signals.
    pub fn usable(&self, verdict: Verdict, read: Read, source: Source) -> Usable {
        match (verdict, source) {
            (Verdict::Current(position), _) => Usable::Kept(position),
            (_, Source::Primary) => Usable::Once(read.position),
            (Verdict::Unknown, Source::Standby) if read.position >= self.known() => {
                Usable::Once(read.position)
            }
            (_, Source::Standby) => Usable::Behind,
        }
    }

    pub(super) fn stamp(&self, touched: &Touched, position: u64) {
        match touched {
            Touched::Everything => self.raise_floor(position),
            Touched::Tags(tags) => {
                for &tag in tags {
                    self.slot(tag).fetch_max(position, Ordering::Release);
                }
            }
        }
    }

    pub(super) fn raise_floor(&self, position: u64) {
        self.floor.fetch_max(position, Ordering::Release);
    }

    pub(super) fn advance(&self, position: u64, now: Instant) {
        self.learn(position);
        self.seen.fetch_max(position, Ordering::Release);
        let heard = now.saturating_duration_since(self.began).as_nanos();
        self.heard.fetch_max(u64::try_from(heard).unwrap_or(NEVER - 1), Ordering::Release);
    }

    pub(super) fn learn(&self, position: u64) {
        self.known.fetch_max(position, Ordering::Release);
    }

    /// Not asked for while nothing has been heard, when there are no slots.
    fn slot(&self, tag: Tag) -> &AtomicU64 {
        &self.stamps[tag.slot(self.stamps.len())]
    }
}
