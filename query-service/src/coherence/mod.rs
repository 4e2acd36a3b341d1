//! Whether what was once read of a view is still true. For each view a replica keeps up to where it has heard
//! the projector's signals without a gap (`seen`), which tags they touched and when (`stamps`), and the position
//! before which nothing is known (`floor`). Something read at the position `read_at` is true as long as
//! `read_at >= floor` and no tag of it was stamped later; it then reflects everything up to `seen`.
//!
//! All of this holds for one [`Timeline`]. With a new term of the view, after a second of silence, or on proof that
//! signals were lost without a trace, another begins, and what was read in the one before counts no more. Time is
//! used to notice silence and for nothing else.

#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
mod tags;
mod timeline;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

pub use tags::{Change, Tag, Tags};
#[cfg(test)]
pub use timeline::Verdict;
pub use timeline::{Read, Timeline};

/// Whether a rule is in force: always, but for the tests that show what each is for.
macro_rules! rule {
    ($coherence:expr, $rule:ident) => {{
        #[cfg(test)]
        let is_in_force = $coherence.rules.$rule;
        #[cfg(not(test))]
        let is_in_force = true;
        is_in_force
    }};
}

/// The projector speaks four times a second; silence for longer than this means that its signals do not arrive.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// What a signal says, with the tags of the rows that changed.
#[derive(Clone, Debug)]
pub struct News {
    pub term: u64,
    pub previous: u64,
    pub position: u64,
    pub reset: bool,
    pub touched: Touched,
}

#[derive(Clone, Debug)]
pub enum Touched {
    Tags(Vec<Tag>),
    /// Any row may have changed.
    Everything,
}

/// Which server something was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Primary,
    /// One that follows the primary, perhaps from afar.
    Standby,
}

/// What may be done with something that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Keep and serve it: it reflects everything up to this position.
    Kept(u64),
    /// Serve it to those who asked before it was read: it reflects the position that it was read at.
    Once(u64),
    /// The primary has to be asked: the standby is behind what must be shown.
    Behind,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It continues what was heard before, if perhaps after a gap.
    InOrder,
    /// It begins another timeline.
    Anew,
    /// It is older than what is known already.
    Late,
}

/// The coherence of one view in one shape of its table.
#[derive(Debug)]
pub struct Coherence {
    timeline: RwLock<Arc<Timeline>>,
    /// Held by whoever changes any of it.
    hearing: Mutex<Hearing>,
    slots: usize,
    #[cfg(test)]
    rules: rules::Rules,
}

#[derive(Debug, Default)]
struct Hearing {
    /// What the database was seen to hold before any signal said so, and since when.
    unheard: Option<(Version, Instant)>,
    /// The primary was last seen in a term before that of the signals.
    is_lower: bool,
}

/// Term and position: what orders the states of a view.
type Version = (u64, u64);

impl Coherence {
    /// Knows nothing until the first signal.
    pub fn new() -> Self {
        Self::with_slots(timeline::SLOTS)
    }

    fn with_slots(slots: usize) -> Self {
        Self {
            timeline: RwLock::new(Arc::new(Timeline::silent(0, 0))),
            hearing: Mutex::default(),
            slots,
            #[cfg(test)]
            rules: rules::Rules::ALL,
        }
    }

    /// The timeline of now.
    pub fn timeline(&self) -> Arc<Timeline> {
        self.timeline.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in a signal.
    pub fn hear(&self, news: &News, now: Instant) -> Heard {
        let _hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        let timeline = self.timeline();
        if news.term < timeline.term() && rule!(self, late_terms_are_ignored) {
            return Heard::Late;
        }
        let is_new_term = news.term != timeline.term() && rule!(self, terms_begin_anew);
        // After a silence it may be old news that arrives first, which was held up somewhere together with all that
        // came after it.
        let was_silent =
            timeline.is_silent() || (!timeline.is_heard(now) && rule!(self, silence_begins_anew));
        if is_new_term || news.reset || was_silent {
            let known = if is_new_term { 0 } else { timeline.known() };
            self.replace(Timeline::begin(news, known, self.slots, now));
            return Heard::Anew;
        }
        // What was read before a gap ends may have changed in it. (A signal that comes late, after the gap that it
        // left was noticed, tells nothing new.)
        if news.previous > timeline.seen() && rule!(self, gaps_raise_the_floor) {
            timeline.raise_floor(news.previous);
        }
        if rule!(self, touched_rows_are_stamped) {
            timeline.stamp(&news.touched, news.position);
        }
        timeline.advance(news.position, now);
        Heard::InOrder
    }

    /// Takes in that something was read. If it is of a new term, the old one is over, before any signal says so.
    pub fn learn(&self, read: Read) {
        if read.term > self.timeline().term() {
            let _hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
            if read.term > self.timeline().term() {
                self.replace(Timeline::silent(read.term, read.position));
            }
        }
    }

    /// Somebody is shown something that reflects this position, in this term: nobody is shown less from now on.
    pub fn show(&self, term: u64, position: u64) {
        if position > self.timeline().seen() {
            // Not between two timelines, the second of which would know nothing of it.
            let _hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
            let timeline = self.timeline();
            if timeline.term() == term {
                timeline.show(position);
            }
        }
    }

    /// Takes in what the primary itself holds: what no signal has told of a second later was lost, whatever
    /// else is heard; and a term that went back is that of a database which was restored.
    pub fn compare(&self, term: u64, position: u64, now: Instant) {
        let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        let timeline = self.timeline();
        // Once, it may be an old look that comes late.
        let was_lower = std::mem::replace(&mut hearing.is_lower, term < timeline.term());
        if hearing.is_lower && !was_lower {
            return;
        }
        if hearing.is_lower || (term > timeline.term() && timeline.is_silent()) {
            hearing.unheard = None;
            return self.replace(Timeline::silent(term, position));
        }
        if term == timeline.term() {
            timeline.learn(position);
        }
        if (term, position) <= (timeline.term(), timeline.seen()) {
            hearing.unheard = None;
            return;
        }
        match hearing.unheard {
            Some((version, since)) if version > (timeline.term(), timeline.seen()) => {
                if now.saturating_duration_since(since) > SILENCE_MAX && rule!(self, lost_news_is_noticed) {
                    hearing.unheard = None;
                    let known = if term == timeline.term() { timeline.known() } else { position };
                    self.replace(Timeline::silent(term, known));
                }
            }
            _ => hearing.unheard = Some(((term, position), now)),
        }
    }

    fn replace(&self, timeline: Timeline) {
        *self.timeline.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(timeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(term: u64, position: u64) -> News {
        News { term, previous: position, position, reset: false, touched: Touched::Tags(vec![]) }
    }

    #[test]
    fn a_database_that_was_restored_is_believed_once_it_is_seen_twice() {
        let (coherence, now) = (Coherence::new(), Instant::now());
        coherence.hear(&heartbeat(7, 100), now);
        // The first may be a look from before the term began.
        coherence.compare(6, 40, now);
        assert_eq!((coherence.timeline().term(), coherence.hear(&heartbeat(6, 40), now)), (7, Heard::Late));
        coherence.compare(6, 40, now);
        assert!(!coherence.timeline().is_heard(now));
        assert_eq!(coherence.hear(&heartbeat(6, 41), now), Heard::Anew);
        assert_eq!(coherence.timeline().reflects(41, &[], now), Some(41));
    }

    #[test]
    fn nothing_is_known_before_the_first_signal_and_after_a_second_of_silence() {
        let (coherence, now) = (Coherence::new(), Instant::now());
        assert_eq!(coherence.timeline().reflects(5, &[], now), None);
        coherence.hear(&heartbeat(1, 5), now);
        assert_eq!(coherence.timeline().reflects(5, &[], now + SILENCE_MAX), Some(5));
        assert_eq!(coherence.timeline().reflects(5, &[], now + SILENCE_MAX * 2), None);
    }
}
