//! More requests than there is room for, by the clock, from clients that do not listen when they are told to wait. They
//! have a processor of their own: elsewhere, too, they do not send so many from the machine that answers.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::apart::Apart;
use crate::contestants::{Service, Site};
use crate::http1::Request;
use crate::load::{Load, Measured, Pace};
use crate::processes::Others;
use crate::reads::{paths, shop::Shop};
use crate::report::{Bound, Fact, Report, Row, Target, median};
use crate::requests::{self, Command};

const ACCOUNTS: u64 = 20_000;
const PEAK: &str = "as many as are answered";
const OVERLOAD: &str = "more than there is room for";
const REGISTER: &str = "register";
const ORDERS: &str = "orders of an account, no cache";
/// How a service says that it is at its limit.
const REFUSED: &str = "503";

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Requests a second, times those that are answered in a closed loop
    #[arg(long, default_value_t = 4.0)]
    times: f64,

    /// Connections of the closed loop
    #[arg(long, default_value_t = 128)]
    connections: usize,

    /// Connections over which there are too many requests: the more, the fewer are still waiting for an answer when
    /// their next request is due
    #[arg(long, default_value_t = 2048)]
    crowd: usize,

    /// Seconds of each load that are measured
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,

    /// Seconds before, of each load
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,

    /// Runs, each with new services; figures are medians
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// What the runs of one kind of request found.
#[derive(Default)]
struct Found {
    peaks: Vec<Row>,
    overloads: Vec<Row>,
    offered: Vec<f64>,
    goodput: Vec<f64>,
    p99_ms: Vec<f64>,
    failed: Vec<f64>,
}

pub async fn measure(options: Options) -> Result<Report> {
    ensure!(options.runs > 0, "0 runs measure nothing");
    let watch = Others::watch()?;
    let apart = Apart::begin()?;
    let shop = Shop::open(ACCOUNTS).await?;
    let machine = shop.site.machine().await?;
    apart.client()?;
    let orders: Arc<[String]> = shop.accounts.iter().map(paths::orders).collect();
    let (mut registrations, mut lists) = (Found::default(), Found::default());
    for _ in 0..options.runs {
        let site = Site::start(1).await?;
        let commands = site.command_service().await?;
        let each_new = |connection| requests::each_new(Command::Register, connection, Arc::from([]));
        registrations.run(REGISTER, &commands, &options, each_new).await?;
        drop(commands);

        let queries = shop.query_service(0).await?;
        lists
            .run(ORDERS, &queries, &options, |connection| requests::gets(orders.clone(), connection))
            .await?;
    }
    let mut report = Report {
        benchmark: "overload",
        settings: format!("{options:?}"),
        machine,
        rows: Vec::new(),
        passes: Vec::new(),
        facts: vec![
            Fact::new(
                "processors of the services and servers; the client has one more",
                apart.servers.to_string(),
            ),
            Fact::others(watch.cores()?),
        ],
        targets: Vec::new(),
    };
    registrations.add_to(&mut report, REGISTER)?;
    lists.add_to(&mut report, ORDERS)?;
    Ok(report)
}

impl Found {
    /// The closed loop, and then more than that.
    async fn run<R: FnMut(&mut Request) + Send + 'static>(
        &mut self,
        what: &'static str,
        service: &Service,
        options: &Options,
        requests: impl Fn(usize) -> R,
    ) -> Result<()> {
        let Options { connections, warm_up, seconds, .. } = *options;
        let load = Load::closed_loop(service.address, connections, warm_up, seconds);
        let peak = service.until(load.run(&requests)).await?;
        let pace = Pace::PerSecond(options.times * peak.per_second());
        let crowd = Load { connections: options.crowd, pace, ..load };
        let mut overload = service.until(crowd.run(&requests)).await?;

        let refused = overload.errors.remove(REFUSED).unwrap_or_default();
        let offered = (overload.succeeded + refused) as f64 / (load.warm_up + load.measure).as_secs_f64();
        self.offered.push(offered / peak.per_second());
        self.goodput.push(overload.per_second() / peak.per_second());
        self.p99_ms.push(overload.quantile_ms(0.99));
        self.failed.push(failures(&peak) + failures(&overload));
        let peak = Row::new(PEAK, what, options.connections, &peak);
        let overload = Row::new(OVERLOAD, what, options.crowd, &overload);
        eprintln!("  {peak}\n  {overload} {offered:.0}/s sent");
        self.peaks.push(peak);
        self.overloads.push(overload);
        Ok(())
    }

    fn add_to(self, report: &mut Report, what: &str) -> Result<()> {
        for rows in [&self.peaks, &self.overloads] {
            report.rows.push(Row::median(rows).context("there is at least one run")?);
        }
        let offered = median(self.offered);
        report.facts.push(Fact::new(format!("{what}: sent, times the peak"), format!("{offered:.2}")));
        let target = |about: &str, bound, runs| Target::new(format!("{what}: {about}"), bound, runs);
        report.targets.extend([
            target("done per second, as a part of the peak", Bound::AtLeast(0.8), self.goodput),
            target("p99 of what is accepted, ms", Bound::AtMost(250.0), self.p99_ms),
            target("neither done nor refused", Bound::AtMost(0.0), self.failed),
        ]);
        Ok(())
    }
}

fn failures(measured: &Measured) -> f64 {
    measured.errors.values().sum::<u64>() as f64
}
