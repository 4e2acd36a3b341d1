//! Is the log whole, and do the views follow from it?

use std::io::{self, Write};

use anyhow::Result;
use replay::{Difference, Findings, Report, Source, output};
use serde_json::{Map, Value};

use super::{Outcome, progress};

pub async fn verify(source: &Source, database_url: &str, show: usize) -> Result<Outcome> {
    let progress = progress::of(source).await?;
    let report = replay::verify(source, database_url, |position| progress.set_position(position)).await?;
    progress.finish_and_clear();
    print_report(&mut output::lines(), &report, show)?;
    Ok(if report.is_clean() { Outcome::Fine } else { Outcome::Differs })
}

pub async fn check(source: &Source) -> Result<Outcome> {
    /// More would not help anybody to see what is wrong.
    const SHOWN_MAX: usize = 100;
    let progress = progress::of(source).await?;
    let findings = replay::check(source, |events| progress.set_position(events)).await?;
    let took = progress.elapsed();
    progress.finish_and_clear();
    let mut out = output::lines();
    let Findings { frames, events, aggregates, ref first, count } = findings;
    let rate = events as f64 / took.as_secs_f64();
    writeln!(out, "{events} events of {aggregates} aggregates in {frames} frames, {rate:.0} events/s")?;
    for finding in first.iter().take(SHOWN_MAX) {
        writeln!(out, "{finding}")?;
    }
    if count > SHOWN_MAX as u64 {
        writeln!(out, "and {} more", count - SHOWN_MAX as u64)?;
    }
    writeln!(out, "{}", if findings.is_clean() { "all is well" } else { "NOT WELL" })?;
    Ok(if findings.is_clean() { Outcome::Fine } else { Outcome::Differs })
}

fn print_report(out: &mut impl Write, report: &Report, show: usize) -> io::Result<()> {
    writeln!(out, "{} events", report.events)?;
    for view in &report.views {
        let differ = report.differences.iter().filter(|difference| difference.view == view.view).count();
        let verdict = if differ == 0 { "equal".to_owned() } else { format!("{differ} DIFFER") };
        let held = if view.quarantined > 0 {
            format!(", {} in quarantine", view.quarantined)
        } else {
            String::new()
        };
        writeln!(out, "{:<12} at {:>10}  {:>10} rows  {verdict}{held}", view.view, view.position, view.rows)?;
    }
    for difference in report.differences.iter().take(show) {
        print_difference(out, difference)?;
    }
    for problem in report.log_problems.iter().take(show) {
        writeln!(out, "the log: {problem}")?;
    }
    let more = report.differences.len().saturating_sub(show) + report.log_problems.len().saturating_sub(show);
    if more > 0 {
        writeln!(
            out,
            "and {more} more; --show {} shows all",
            report.differences.len().max(report.log_problems.len())
        )?;
    }
    writeln!(out, "{}", if report.is_clean() { "all is well" } else { "NOT WELL" })
}

/// Of a row that is on both sides, only the columns that differ.
fn print_difference(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    writeln!(out, "\n{} {}", difference.view, difference.key)?;
    let side = |row: &Option<Value>, other: &Option<Value>| match (row, other) {
        (None, _) => "no row".to_owned(),
        (Some(Value::Object(row)), Some(Value::Object(other))) => {
            let differ = row.iter().filter(|(name, value)| other.get(*name) != Some(value));
            let differ: Map<String, Value> =
                differ.map(|(name, value)| (name.clone(), value.clone())).collect();
            Value::Object(differ).to_string()
        }
        (Some(row), _) => row.to_string(),
    };
    writeln!(out, "  the log says  {}", side(&difference.expected, &difference.found))?;
    writeln!(out, "  the view says {}", side(&difference.found, &difference.expected))
}
