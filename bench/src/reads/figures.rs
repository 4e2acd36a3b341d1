//! What runs come to: rows of the report, other figures, and what was promised of them.

use std::collections::BTreeMap;

use crate::report::{Bound, Fact, Row, Target, median};

/// What one run found.
#[derive(Default)]
pub struct Run {
    pub rows: Vec<Row>,
    pub figures: BTreeMap<Figure, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    HotTimesBare,
    TokensTimesNone,
    UniformTimesPgbench,
    HitRatio,
    HitRatioWithoutStandby,
    CommandsPerSecond,
    Checked,
    Different,
    Faulty,
    NotAnswered,
}

const SHARE_OF_BARE: f64 = 0.7;
const TIMES_PGBENCH: f64 = 1.0;

impl Figure {
    const ALL: [Self; 10] = [
        Self::HotTimesBare,
        Self::TokensTimesNone,
        Self::UniformTimesPgbench,
        Self::HitRatio,
        Self::HitRatioWithoutStandby,
        Self::CommandsPerSecond,
        Self::Checked,
        Self::Different,
        Self::Faulty,
        Self::NotAnswered,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::HotTimesBare => "hot narrow rows: reads/s, times those of the bare handler",
            Self::TokensTimesNone => "hot narrow rows with a token: reads/s, times those without",
            Self::UniformTimesPgbench => "any row, no cache: reads/s, times those of pgbench",
            Self::HitRatio => "rows that change: share of reads by key that the cache answers",
            Self::HitRatioWithoutStandby => "the same while the standby stands still",
            Self::CommandsPerSecond => "rows that change: commands/s",
            Self::Checked => "rows that change: answers compared with the log",
            Self::Different => "rows that change: different answers among them",
            Self::Faulty => "answers that were not as of the position that they say, in the worst run",
            Self::NotAnswered => "reads and commands without success, in the worst run",
        }
    }

    fn bound(self) -> Option<Bound> {
        match self {
            Self::HotTimesBare => Some(Bound::AtLeast(SHARE_OF_BARE)),
            Self::UniformTimesPgbench => Some(Bound::AtLeast(TIMES_PGBENCH)),
            Self::Faulty | Self::NotAnswered => Some(Bound::AtMost(0.0)),
            _ => None,
        }
    }

    /// Of the runs that have it.
    fn of(self, runs: &[Run]) -> Vec<f64> {
        let found: Vec<f64> = runs.iter().filter_map(|run| run.figures.get(&self).copied()).collect();
        match self {
            // A median would hide a single wrong run.
            Self::Faulty | Self::NotAnswered => found.into_iter().reduce(f64::max).into_iter().collect(),
            _ => found,
        }
    }
}

/// Each row's median.
pub fn medians(runs: &[Run]) -> Vec<Row> {
    let rows = runs.first().into_iter().flat_map(|run| &run.rows);
    rows.filter_map(|row| {
        let same = runs.iter().filter_map(|run| row.find_same(&run.rows).cloned());
        Row::median(&same.collect::<Vec<_>>())
    })
    .collect()
}

/// Figures without a target that were found.
pub fn facts(runs: &[Run]) -> Vec<Fact> {
    let all = Figure::ALL.into_iter().filter(|figure| figure.bound().is_none());
    let found = all.map(|figure| (figure, figure.of(runs))).filter(|(_, found)| !found.is_empty());
    found.map(|(figure, found)| Fact::new(figure.name(), format!("{:.2}", median(found)))).collect()
}

/// Those with a target.
pub fn targets(runs: &[Run]) -> Vec<Target> {
    let all = Figure::ALL.into_iter().filter_map(|figure| Some((figure, figure.bound()?)));
    let found = all.map(|(figure, bound)| (figure, bound, figure.of(runs)));
    let found = found.filter(|(_, _, found)| !found.is_empty());
    found.map(|(figure, bound, found)| Target::new(figure.name(), bound, found)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(figure: Figure, value: f64) -> Run {
        Run { figures: BTreeMap::from([(figure, value)]), ..Run::default() }
    }

    #[test]
    fn one_faulty_answer_in_one_run_misses_the_target() {
        let runs = [0.0, 1.0, 0.0].map(|faulty| run(Figure::Faulty, faulty));
        assert!(!targets(&runs)[0].is_met);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let runs = [run(Figure::HitRatio, 0.5)];
        assert!(targets(&runs).is_empty());
        assert_eq!(facts(&runs).len(), 1);
    }
}
