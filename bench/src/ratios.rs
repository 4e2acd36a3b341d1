//! How many times as much a second one contestant does as another, made within each run.

use crate::report::{Fact, Row, median};

/// A line for each row that `ours` names a contestant to compare with.
pub fn facts<'a>(
    runs: impl Iterator<Item = &'a [Row]> + Clone,
    ours: impl Fn(&Row) -> Option<&'static str>,
) -> Vec<Fact> {
    let rows = runs.clone().next().unwrap_or_default();
    let compared = rows.iter().filter_map(|row| Some((row, ours(row)?)));
    compared
        .map(|(row, ours)| {
            let Row { contestant, what, connections, .. } = row;
            let times = runs.clone().filter_map(|run| {
                let ours = Row { contestant: ours, ..row.clone() }.find_same(run)?.per_second;
                Some(ours / row.find_same(run)?.per_second)
            });
            let what = format!("{what}, {connections} connections: {ours} a second, times {contestant}");
            Fact::new(what, format!("{:.2}", median(times.collect())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(contestant: &'static str, per_second: f64) -> Row {
        let (mean_ms, p50_ms, p99_ms) = (1.0, 1.0, 1.0);
        Row { contestant, what: "register", connections: 16, per_second, mean_ms, p50_ms, p99_ms, errors: 0 }
    }

    #[test]
    fn a_ratio_is_made_within_a_run() {
        // The medians of each alone would give 300 / 20.
        let runs = [(100.0, 10.0), (300.0, 20.0), (400.0, 400.0)]
            .map(|(ours, theirs)| vec![row("ours", ours), row("theirs", theirs)]);
        let facts =
            facts(runs.iter().map(Vec::as_slice), |row| (row.contestant == "theirs").then_some("ours"));
        assert_eq!(facts.len(), 1);
        assert_eq!(facts[0].value, "10.00");
    }
}
