//! Tasks: how fast they are done when there is time, that they wait when there is none, and that registering does not
//! wait for them.

mod drain;
mod hold;
mod queue;
mod register;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::machine::Machine;
use crate::processes::Others;
use crate::report::{Bound, Fact, Report, Row, Target, median};

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What to measure, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    parts: Vec<Part>,

    /// Tasks that are done when there is time
    #[arg(long, default_value_t = 50_000)]
    tasks: usize,

    /// Tasks that wait while there is load
    #[arg(long, default_value_t = 10_000)]
    waiting: u64,

    /// Number of connections of the load that holds tasks back
    #[arg(long, default_value_t = 64)]
    connections: usize,

    /// Seconds that each load is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Runs; figures are medians, and ratios are made within one run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Emails that are made and thrown away, while nobody asks for anything
    Drain,
    /// As many reads as the service can answer, with tasks that wait and without any
    Hold,
    /// Registrations with a task-worker that has a mail server, with one that has none, and without one
    Register,
}

impl Part {
    const ALL: [Self; 3] = [Self::Drain, Self::Hold, Self::Register];
}

/// What the runs have found.
#[derive(Default)]
struct Found {
    machine: Option<Machine>,
    rows: Vec<Row>,
    drained_per_second: Vec<f64>,
    /// Of the tail of reads with tasks that wait, times that without any.
    p99_times: Vec<f64>,
    held_per_second: Vec<f64>,
    freed_per_second: Vec<f64>,
    /// Of the time that a registration takes, times that with a mail server.
    down_times_up: Vec<f64>,
    up_times_none: Vec<f64>,
}

pub async fn measure(options: Options) -> Result<Report> {
    let others = Others::watch()?;
    let mut found = Found::default();
    for part in &options.parts {
        match part {
            Part::Drain => drain::measure(&options, &mut found).await?,
            Part::Hold => hold::measure(&options, &mut found).await?,
            Part::Register => register::measure(&options, &mut found).await?,
        }
    }
    let machine = found.machine.take().context("there is nothing to measure")?;
    let mut facts = found.facts();
    facts.push(Fact::others(others.cores()?));
    Ok(Report {
        benchmark: "tasks",
        settings: format!(
            "{} tasks done, {} held; medians of {} runs, each load measured for {} s",
            options.tasks, options.waiting, options.runs, options.seconds
        ),
        machine,
        facts,
        targets: found.targets(),
        rows: medians(&found.rows),
        passes: Vec::new(),
    })
}

impl Found {
    fn targets(&self) -> Vec<Target> {
        let all = [
            ("tasks/s to where emails are thrown away", Bound::AtLeast(2000.0), &self.drained_per_second),
            ("p99 of reads while tasks wait, times that without any", Bound::AtMost(1.1), &self.p99_times),
            ("tasks/s begun while reads take all there is", Bound::AtMost(1.0), &self.held_per_second),
            (
                "a registration without a mail server, times one with it",
                Bound::AtMost(1.1),
                &self.down_times_up,
            ),
        ];
        let found = all.into_iter().filter(|(_, _, runs)| !runs.is_empty());
        found.map(|(what, bound, runs)| Target::new(what, bound, runs.clone())).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        let all = [
            ("tasks/s once the reads end, the time until they go on included", &self.freed_per_second),
            ("a registration with a task-worker, times one without", &self.up_times_none),
        ];
        let found = all.into_iter().filter(|(_, runs)| !runs.is_empty());
        found.map(|(what, runs)| Fact::new(what, format!("{:.2}", median(runs.clone())))).collect()
    }
}

/// Each row's median over the runs.
fn medians(rows: &[Row]) -> Vec<Row> {
    let mut medians: Vec<Row> = Vec::new();
    for row in rows {
        if row.find_same(&medians).is_none() {
            let about = |row: &Row| (row.contestant, row.what, row.connections);
            let same: Vec<Row> = rows.iter().filter(|other| about(other) == about(row)).cloned().collect();
            medians.extend(Row::median(&same));
        }
    }
    medians
}
