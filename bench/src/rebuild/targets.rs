//! What was promised of a rebuild.

use super::{ALL_VIEWS, COUNT, DECODE, INSERT, LOG, REBUILD, Run, SERVICE, VERIFIED, find};
use crate::report::{Bound, Pass, Target};

const SHARE_OF_ONE_VIEW: f64 = 0.6;
const SHARE_OF_ALL_VIEWS: f64 = 0.3;
const PEAK_MB_MAX: f64 = 300.0;

pub fn judge(runs: &[Run]) -> Vec<Target> {
    let shares = |view| runs.iter().map(|run| share(run, view).unwrap_or(f64::NAN)).collect();
    let mut targets: Vec<Target> = domain::views::ALL
        .iter()
        .map(|view| {
            let what = format!("{}: events/s, times the slowest of count, decode, insert", view.name);
            Target::new(what, Bound::AtLeast(SHARE_OF_ONE_VIEW), shares(view.name))
        })
        .collect();
    targets.push(Target::new(
        "all views: events/s, times the slowest of count, decode, all inserts one after the other",
        Bound::AtLeast(SHARE_OF_ALL_VIEWS),
        shares(ALL_VIEWS),
    ));
    let ours = |pass: &&Pass| [REBUILD, SERVICE, VERIFIED].contains(&pass.contestant);
    let peaks = runs.iter().flatten().filter(ours).map(|pass| pass.peak_mb);
    // A median would hide a single peak.
    let peak = peaks.map(|peak| peak.unwrap_or(f64::NAN)).reduce(f64::max);
    targets.push(Target::new(
        "peak resident memory of the projector in any run, MB",
        Bound::AtMost(PEAK_MB_MAX),
        peak.into_iter().collect(),
    ));
    targets
}

/// The events per second of a rebuild, as a share of what the slowest of the three allows that do
/// only a part of its work.
fn share(run: &Run, what: &str) -> Option<f64> {
    let per_second = |contestant, what| Some(find(run, contestant, what)?.per_second);
    let limits = [per_second(COUNT, LOG)?, per_second(DECODE, LOG)?, per_second(INSERT, what)?];
    Some(per_second(REBUILD, what)? / limits.into_iter().fold(f64::INFINITY, f64::min))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pass;
    use super::*;

    #[test]
    fn a_view_is_compared_with_what_is_slowest_for_it() {
        let run = vec![
            pass(COUNT, LOG, 1.0),
            pass(DECODE, LOG, 3.0),
            pass(REBUILD, "orders", 8.0),
            pass(INSERT, "orders", 4.0),
            pass(REBUILD, "daily_sales", 6.0),
            pass(INSERT, "daily_sales", 0.1),
        ];
        assert_eq!(share(&run, "orders"), Some(0.5));
        assert_eq!(share(&run, "daily_sales"), Some(0.5));
        assert_eq!(share(&run, "accounts"), None);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(judge(&[Run::new()]).iter().all(|target| !target.is_met));
    }
}
