//! What things cost as the log grows: the same at several lengths, one after the other.

mod size;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::processes::Others;
use crate::report::{Bound, Fact, Report, Target};
use size::Size;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Accounts at each size, from the smallest to the largest; an account has four events, its own and its orders'
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    accounts: Vec<u64>,

    /// Seconds of each load that are measured, after as many that are not
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,

    /// Connections of each load
    #[arg(long, default_value_t = 64)]
    connections: usize,

    /// Commands to accounts that nobody has commanded for long, one at a time
    #[arg(long, default_value_t = 2000)]
    commands: usize,
}

/// How a figure may grow with the log.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    /// Not at all, or as its logarithm: what is looked up in a tree.
    Logarithmic,
    /// Up to this: what is kept in memory because there is room for it.
    Bounded(f64),
}

/// One thing that is measured at each size.
#[derive(Clone, Copy, Debug)]
struct Figure {
    what: &'static str,
    growth: Growth,
    value: f64,
}

pub async fn measure(options: Options) -> Result<Report> {
    let Options { accounts, commands, .. } = &options;
    ensure!(accounts.is_sorted(), "the sizes are to go from the smallest to the largest");
    let least = accounts.first().context("no size, nothing to measure")?;
    ensure!(*least > 2 * *commands as u64, "more accounts than commands are needed");
    let others = Others::watch()?;
    let (mut machine, mut sizes) = (None, Vec::new());
    for accounts in accounts {
        let (size, measured_on) = Size::measure(*accounts, &options).await?;
        size.figures.iter().for_each(|Figure { what, value, .. }| eprintln!("  {what}: {value:.4}"));
        machine.get_or_insert(measured_on);
        sizes.push(size);
    }
    Ok(Report {
        benchmark: "growth",
        settings: format!(
            "{} accounts; once each, loads over {} connections measured for {} s",
            joined(accounts.iter()),
            options.connections,
            options.seconds
        ),
        machine: machine.context("nothing was measured")?,
        rows: Vec::new(),
        passes: Vec::new(),
        facts: figures(&sizes).map(|values| fact(&values)).chain([Fact::others(others.cores()?)]).collect(),
        targets: figures(&sizes).filter_map(|values| target(&sizes, &values)).collect(),
    })
}

/// Each figure, at all sizes.
fn figures(sizes: &[Size]) -> impl Iterator<Item = Vec<Figure>> {
    let count = sizes.first().map_or(0, |size| size.figures.len());
    (0..count).map(|index| sizes.iter().map(|size| size.figures[index]).collect())
}

fn fact(values: &[Figure]) -> Fact {
    Fact::new(values[0].what, joined(values.iter().map(|figure| significant(figure.value))))
}

fn target(sizes: &[Size], values: &[Figure]) -> Option<Target> {
    let (first, last) = (values.first()?, values.last()?);
    Some(match first.growth {
        Growth::Logarithmic => {
            let logarithm = |size: &Size| (size.events as f64).ln();
            let bound = logarithm(sizes.last()?) / logarithm(sizes.first()?);
            let what = format!("{}: at the largest, times that at the smallest", first.what);
            Target::new(what, Bound::AtMost((bound * 100.0).round() / 100.0), vec![last.value / first.value])
        }
        Growth::Bounded(most) => {
            let peak = values.iter().map(|figure| figure.value).fold(0.0, f64::max);
            Target::new(format!("{}: at any size", first.what), Bound::AtMost(most), vec![peak])
        }
    })
}

fn joined(values: impl Iterator<Item = impl ToString>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join(" / ")
}

/// Three digits that say something.
fn significant(value: f64) -> String {
    let digits = (2.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 4.0);
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(events: u64, values: [f64; 2]) -> Size {
        let growths = [Growth::Logarithmic, Growth::Bounded(100.0)];
        let figures = values.into_iter().zip(growths);
        let figures = figures.map(|(value, growth)| Figure { what: "", growth, value }).collect();
        Size { events, figures }
    }

    #[test]
    fn costs_may_grow_as_the_logarithm_and_memory_up_to_its_bound() {
        let judged = |last: [f64; 2]| -> Vec<bool> {
            let sizes = [size(100, [2.0, 10.0]), size(10_000, last)];
            figures(&sizes).filter_map(|values| target(&sizes, &values)).map(|target| target.is_met).collect()
        };
        assert_eq!(judged([3.9, 99.0]), [true, true]);
        assert_eq!(judged([4.1, 101.0]), [false, false]);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([1234.5, 56.78, 0.1234, 0.0].map(significant), ["1234", "56.8", "0.123", "0.0000"]);
    }
}
