//! A database, projectors, a network and one replica, and what happens to them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::random::Random;
use crate::coherence::{
    Coherence, Heard, News, Read, SILENCE_MAX, Source, Tag, Timeline, Touched, Usable, Verdict, rules::Rules,
};

const KEYS: usize = 3;
const STEPS: usize = 400;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
const COMPARED_EVERY: Duration = Duration::from_millis(250);
const STEP_MAX_MS: u64 = 40;
const DELAY_MAX_MS: u64 = 300;
/// A change is in every answer from the cache after this, whatever is lost: a second of silence or of waiting for its
/// signal, and what was under way or between two looks. While the replica is stopped, it cannot notice anything.
const NOTICED_WITHIN: Duration = Duration::from_millis(1_000 + DELAY_MAX_MS + 2 * 250 + 4 * STEP_MAX_MS);

/// A state of the database.
#[derive(Clone, Debug)]
struct State {
    term: u64,
    position: u64,
    /// A number for each row's content, no two alike.
    rows: [u64; KEYS],
    at: Instant,
}

/// A signal on its way.
struct Sent {
    arrives: Instant,
    news: News,
    /// The state it speaks of, and the rows it names.
    state: usize,
    rows: Vec<usize>,
}

#[derive(Clone)]
struct Entry {
    timeline: u64,
    read_at: u64,
    /// The state it was read from.
    state: usize,
    kept_at: Instant,
}

/// A query that has missed.
struct Fill {
    row: usize,
    source: Source,
    /// The state that it read, once it has.
    read: Option<usize>,
    must_reflect: usize,
    /// The position that had been shown when it was asked for.
    shown: u64,
}

pub struct World {
    random: Random,
    now: Instant,
    history: Vec<State>,
    standby: usize,
    loses: u64,
    network: Vec<Sent>,
    beat_at: Instant,
    /// One that has lost the view and does not know: its term and position.
    ghost: Option<(u64, u64, usize)>,
    /// What was before this need not have been noticed by the replica.
    awake_since: Instant,
    /// The replica cannot compare what it has heard with the primary.
    is_blind: bool,
    /// Nothing is heard of the projector of this term.
    is_mute: bool,
    replica: Replica,
}

struct Replica {
    rules: Rules,
    coherence: Coherence,
    cache: BTreeMap<usize, Entry>,
    fills: VecDeque<Fill>,
    compared_at: Instant,
    /// For each row the last state that a signal told of.
    told: [usize; KEYS],
    /// The last state that an answer was of.
    shown: usize,
    heard_at: Instant,
    /// Nothing that was kept before counts any more.
    silent_until: Instant,
    answers: u64,
    hits: u64,
}

impl World {
    pub fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let now = Instant::now();
        // Sometimes so few slots that tags share them.
        let slots = if random.one_in(2) { 2 } else { 64 };
        let coherence = Coherence { rules, ..Coherence::with_slots(slots) };
        let replica = Replica {
            rules,
            coherence,
            cache: BTreeMap::new(),
            fills: VecDeque::new(),
            compared_at: now,
            told: [0; KEYS],
            shown: 0,
            heard_at: now,
            silent_until: now,
            answers: 0,
            hits: 0,
        };
        let loses = [0, 5, 30, 100][random.below(4) as usize];
        let is_blind = random.one_in(3);
        let history = vec![State { term: 1, position: 0, rows: [0; KEYS], at: now }];
        Self {
            random,
            now,
            history,
            standby: 0,
            loses,
            network: Vec::new(),
            beat_at: now,
            ghost: None,
            awake_since: now,
            is_blind,
            is_mute: false,
            replica,
        }
    }

    /// Answers, and those from the cache; what was wrong with the first that was.
    pub fn run(mut self) -> Result<(u64, u64), String> {
        for _ in 0..STEPS {
            self.now += self.random.millis(STEP_MAX_MS);
            self.beat();
            self.deliver();
            self.compare();
            match self.random.below(100) {
                0..8 => self.commit(),
                8 => self.begin_term(),
                9 if self.random.one_in(2) => self.freeze(),
                9 => self.stop(),
                10..20 => {
                    self.standby = self.standby.max(self.random.below(self.history.len() as u64) as usize)
                }
                20..22 => drop(self.replica.cache.remove(&(self.random.below(KEYS as u64) as usize))),
                22..60 => self.ask()?,
                _ => self.go_on()?,
            }
        }
        Ok((self.replica.answers, self.replica.hits))
    }

    fn head(&self) -> &State {
        self.history.last().expect("there is a first state")
    }

    fn commit(&mut self) {
        let mut state = self.head().clone();
        let previous = state.position;
        state.position += 1 + self.random.below(3);
        state.at = self.now;
        let rows: Vec<usize> = (0..KEYS).filter(|_| self.random.one_in(2)).collect();
        for &row in &rows {
            state.rows[row] = fresh(self.history.len(), row);
        }
        let touched = if self.random.one_in(10) { Touched::Everything } else { tags(&rows) };
        let news = News { term: state.term, previous, position: state.position, reset: false, touched };
        self.history.push(state);
        self.send(news, rows);
    }

    /// A takeover, a key released from quarantine, or another build of the view, even one of another log.
    fn begin_term(&mut self) {
        let mut state = self.head().clone();
        if !self.is_blind {
            self.ghost =
                self.random.one_in(2).then_some((state.term, state.position, self.history.len() - 1));
            self.is_mute = self.random.one_in(4);
        }
        state.term += 1;
        state.at = self.now;
        let rows: Vec<usize> = (0..KEYS).filter(|_| self.random.one_in(2)).collect();
        match self.random.below(3) {
            0 => {}
            kind => {
                if kind == 2 {
                    state.position = self.random.below(state.position + 3);
                }
                for &row in &rows {
                    state.rows[row] = fresh(self.history.len(), row);
                }
            }
        }
        let (term, position) = (state.term, state.position);
        self.history.push(state);
        self.send(
            News { term, previous: position, position, reset: true, touched: Touched::Everything },
            rows,
        );
    }

    /// Time passes, and nobody says anything.
    fn freeze(&mut self) {
        let until = self.now + self.random.millis(2_500);
        while self.now < until {
            self.now += Duration::from_millis(STEP_MAX_MS);
            self.deliver();
            self.compare();
        }
        self.beat_at = self.now + HEARTBEAT_EVERY;
    }

    /// The replica is stopped for a while; what is sent to it waits.
    fn stop(&mut self) {
        let until = self.now + self.random.millis(2_500);
        while self.now < until {
            self.now += Duration::from_millis(STEP_MAX_MS);
            self.beat();
            if self.random.one_in(20) {
                self.commit();
            }
        }
        self.awake_since = self.now;
    }

    fn beat(&mut self) {
        if self.now < self.beat_at {
            return;
        }
        self.beat_at = self.now + HEARTBEAT_EVERY;
        let beat = |term, position| News {
            term,
            previous: position,
            position,
            reset: false,
            touched: Touched::Tags(vec![]),
        };
        let (term, position) = (self.head().term, self.head().position);
        self.send(beat(term, position), vec![]);
        if let Some((term, position, state)) = self.ghost {
            self.send_of(state, beat(term, position), vec![]);
        }
    }

    fn send(&mut self, news: News, rows: Vec<usize>) {
        if !self.is_mute {
            self.send_of(self.history.len() - 1, news, rows);
        }
    }

    fn send_of(&mut self, state: usize, news: News, rows: Vec<usize>) {
        if self.random.below(100) >= self.loses {
            // Mostly in order, now and then not.
            let delay = if self.random.one_in(4) { self.random.millis(DELAY_MAX_MS) } else { Duration::ZERO };
            self.network.push(Sent { arrives: self.now + delay, news, state, rows });
        }
    }

    fn deliver(&mut self) {
        let (arrived, rest) =
            std::mem::take(&mut self.network).into_iter().partition(|sent| sent.arrives <= self.now);
        self.network = rest;
        for Sent { news, state, rows, .. } in Vec::<Sent>::from_iter(arrived) {
            let replica = &mut self.replica;
            if replica.coherence.hear(&news, self.now) != Heard::Late {
                if self.now > replica.heard_at + SILENCE_MAX {
                    replica.silent_until = self.now;
                }
                replica.heard_at = self.now;
            }
            for row in rows {
                replica.told[row] = replica.told[row].max(state);
            }
        }
    }

    fn compare(&mut self) {
        if self.is_blind || self.now < self.replica.compared_at + COMPARED_EVERY {
            return;
        }
        self.replica.compared_at = self.now;
        let (term, position) = (self.head().term, self.head().position);
        self.replica.coherence.compare(term, position, self.now);
    }

    /// A client asks for a row.
    fn ask(&mut self) -> Result<(), String> {
        let row = self.random.below(KEYS as u64) as usize;
        let timeline = self.replica.coherence.timeline();
        let must_reflect = self.replica.told[row].max(self.replica.shown);
        let entry = self.replica.cache.get(&row).cloned();
        let entry = entry
            .filter(|entry| entry.timeline == timeline.id() || !self.replica.rules.hits_are_of_this_timeline);
        let reflects = entry.as_ref().and_then(|entry| self.reflects(&timeline, entry.read_at, row));
        let shown = if self.replica.rules.nobody_is_taken_back { timeline.shown() } else { 0 };
        let reflects = reflects.filter(|position| *position >= shown);
        if let (Some(entry), Some(position)) = (entry, reflects) {
            self.replica.hits += 1;
            if entry.kept_at < self.replica.silent_until {
                return Err(format!("hit: row {row} was kept before a silence"));
            }
            let noticed = |state: &State| state.at.max(self.awake_since) + NOTICED_WITHIN < self.now;
            let noticed = self.history.iter().rposition(noticed);
            self.check(row, entry.state, position, noticed.unwrap_or(0), "hit, late")?;
            return self.answer(row, entry.state, position, must_reflect, "hit");
        }
        let source = if self.random.one_in(2) { Source::Standby } else { Source::Primary };
        self.replica.fills.push_back(Fill { row, source, read: None, must_reflect, shown });
        Ok(())
    }

    fn reflects(&self, timeline: &Timeline, read_at: u64, row: usize) -> Option<u64> {
        let now = if self.replica.rules.silence_is_not_served { self.now } else { timeline.heard_at()? };
        timeline.reflects(read_at, &[tag(row)], now)
    }

    /// Some fill goes on: it reads, or what it has read is judged.
    fn go_on(&mut self) -> Result<(), String> {
        let fills = self.replica.fills.len() as u64;
        if fills == 0 {
            return Ok(());
        }
        let place = self.random.below(fills) as usize;
        let Some(mut fill) = self.replica.fills.remove(place) else { return Ok(()) };
        let Some(state) = fill.read else {
            let head = self.history.len() - 1;
            fill.read = Some(if fill.source == Source::Standby { self.standby } else { head });
            self.replica.fills.push_back(fill);
            return Ok(());
        };
        let rules = self.replica.rules;
        let State { term, position, .. } = self.history[state];
        let read = Read { term, position };
        if rules.reads_end_the_term_before {
            self.replica.coherence.learn(read);
        }
        let timeline = self.replica.coherence.timeline();
        let judged = if rules.reads_of_another_term_are_not_kept {
            timeline.judge(read, &[tag(fill.row)], self.now)
        } else {
            self.reflects(&timeline, position, fill.row).map_or(Verdict::Old, Verdict::Current)
        };
        let verdict = match judged {
            Verdict::Old if !rules.what_is_old_already_is_not_kept && timeline.term() == term => {
                Verdict::Current(position.max(timeline.seen()))
            }
            judged => judged,
        };
        let source =
            if rules.standbys_that_are_behind_are_not_believed { fill.source } else { Source::Primary };
        let usable = match timeline.usable(verdict, read, source) {
            Usable::Kept(position) if position < fill.shown && fill.source == Source::Standby => {
                Usable::Behind
            }
            usable => usable,
        };
        match usable {
            Usable::Kept(position) => {
                let entry =
                    Entry { timeline: timeline.id(), read_at: read.position, state, kept_at: self.now };
                self.replica.cache.insert(fill.row, entry);
                self.answer(fill.row, state, position, fill.must_reflect, "kept")
            }
            Usable::Once(position) => self.answer(fill.row, state, position, fill.must_reflect, "once"),
            Usable::Behind => {
                self.replica.fills.push_back(Fill { source: Source::Primary, read: None, ..fill });
                Ok(())
            }
        }
    }

    /// A client is answered. Nobody who asks from now on may be answered with what was before.
    fn answer(
        &mut self,
        row: usize,
        state: usize,
        position: u64,
        must_reflect: usize,
        how: &str,
    ) -> Result<(), String> {
        let term = self.history[state].term;
        let state = self.check(row, state, position, must_reflect, how)?;
        self.replica.answers += 1;
        self.replica.shown = self.replica.shown.max(state);
        self.replica.coherence.show(term, position);
        Ok(())
    }

    /// The answer is the row as it stood at the position that it claims to reflect, in some state that is not before
    /// what it must reflect; which that is.
    fn check(
        &self,
        row: usize,
        state: usize,
        position: u64,
        must_reflect: usize,
        how: &str,
    ) -> Result<usize, String> {
        let content = self.history[state].rows[row];
        let is_right = |state: &State| state.position == position && state.rows[row] == content;
        match self.history[must_reflect..].iter().position(is_right) {
            Some(after) => Ok(must_reflect + after),
            None => Err(format!(
                "{how}: row {row} of state {state} is said to reflect {position}, and must reflect state \
                 {must_reflect} of {}",
                self.history.len()
            )),
        }
    }
}

fn fresh(state: usize, row: usize) -> u64 {
    (state * KEYS + row) as u64 + 1
}

fn tag(row: usize) -> Tag {
    Tag::numbered(row as u64)
}

fn tags(rows: &[usize]) -> Touched {
    Touched::Tags(rows.iter().map(|&row| tag(row)).collect())
}
