//! What a check found.

use std::collections::BTreeMap;
use std::fmt;

/// As many faults are told in full.
const TOLD_MAX: usize = 5;

/// What may be wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not what the log folds to at the position that it says.
    NotAsOfItsPosition,
    /// It says a position that the log does not have.
    BeyondTheLog,
    /// It says a position before the one that was asked for.
    OlderThanAskedFor,
    /// It says a position before that of an answer that the same client had of the same replica and view.
    WentBack,
    /// It is none that can be checked.
    Nonsense,
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Answers that were checked.
    pub answers: u64,
    /// Different bodies among them: an answer that never changes proves little.
    pub bodies: usize,
    /// Events in the log.
    pub events: u64,
    pub faults: BTreeMap<Fault, u64>,
    /// Some of the faults, in words.
    pub told: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Answers of which something is wrong; one that is wrong in two ways counts twice.
    pub fn faulty(&self) -> u64 {
        self.faults.values().sum()
    }

    pub(crate) fn add(&mut self, fault: Fault, tell: impl FnOnce() -> String) {
        *self.faults.entry(fault).or_default() += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{fault:?}: {}", tell()));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answers, bodies, events, faults, told } = self;
        write!(f, "{answers} answers, {bodies} different ones, over {events} events: ")?;
        if faults.is_empty() {
            return write!(f, "all as of the positions that they say");
        }
        write!(f, "{faults:?}")?;
        told.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
