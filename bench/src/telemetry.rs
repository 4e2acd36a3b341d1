//! What it costs to tell a collector: hot narrow reads and registrations, with traces, metrics and logs sent as they are
//! by default, beside the same without, and beside the same without once more. All run at once and are measured in turn,
//! in slices, so that what drifts favours nobody.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use axum::{Router, body::Bytes, routing::post};
use clap::Args;
use uuid::Uuid;

use crate::contestants::{Service, Site};
use crate::http1::Request;
use crate::load::{Load, Pace};
use crate::processes::{Others, ProcessorTime};
use crate::reads::{paths, shop::Shop};
use crate::report::{Bound, Fact, Report, Row, Target, median};
use crate::requests::{self, Command};

const ACCOUNTS: usize = 1_000;
const SILENT: &str = "nothing told";
/// What is no different from the first: how far it is from it is how far off chance puts a figure.
const AGAIN: &str = "nothing told, again";
const TELLING: &str = "told a collector";
const READ: &str = "hot narrow rows";
const REGISTER: &str = "register";
/// A slice's beginning, until connections and caches are as they will stay.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Runs, each with new services and servers: two of the same are never equally fast
    #[arg(long, default_value_t = 4)]
    runs: u32,

    /// Slices of each contestant under each load in a run
    #[arg(long, default_value_t = 9)]
    slices: u32,

    /// Seconds of a slice
    #[arg(long, default_value_t = 1)]
    seconds: u32,

    /// Number of connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// Three of the same service, of which the last tells.
struct Three([Service; 3]);

const NAMES: [&str; 3] = [SILENT, AGAIN, TELLING];

/// What one slice came to.
struct Slice {
    row: Row,
    /// Of the service, for one request.
    own_us: f64,
}

type Figure = fn(&Slice) -> f64;

/// Those of each contestant.
type Slices = [Vec<Slice>; 3];

pub async fn measure(options: Options) -> Result<Report> {
    let others = Others::watch()?;
    let sink = Sink::start()?;
    let endpoint = format!("http://{}", sink.address);
    let telling = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];

    let shop = Shop::of_accounts_alone(ACCOUNTS).await?;
    let machine = shop.site.machine().await?;
    let rows: Arc<[String]> = shop.accounts.iter().map(paths::narrow).collect();
    let (mut reads, mut commands) = (Slices::default(), Slices::default());
    for run in 0..options.runs {
        eprintln!("run {} of {}", run + 1, options.runs);
        let queries = async |settings: &[_]| shop.site.query_service(shop.postgres.url(), settings).await;
        let three = Three([queries(&[]).await?, queries(&[]).await?, queries(&telling).await?]);
        three.measure(&mut reads, READ, &options, |connection| narrow(rows.clone(), connection)).await?;
        drop(three);

        let sites = [Site::start(1).await?, Site::start(1).await?, Site::start(1).await?];
        let three = Three([
            sites[0].command_service().await?,
            sites[1].command_service().await?,
            sites[2].command_service_with(&telling).await?,
        ]);
        three.measure(&mut commands, REGISTER, &options, registrations).await?;
    }

    let mut report = Report {
        benchmark: "telemetry",
        settings: format!("{options:?}"),
        machine,
        rows: Vec::new(),
        passes: Vec::new(),
        facts: vec![
            Fact::others(others.cores()?),
            Fact::new("requests that the collector took", sink.requests.load(Relaxed).to_string()),
            Fact::new("bytes in them", sink.bytes.load(Relaxed).to_string()),
        ],
        targets: Vec::new(),
    };
    for (what, slices) in [(READ, reads), (REGISTER, commands)] {
        add(&mut report, what, slices);
    }
    Ok(report)
}

impl Three {
    /// By turns, each slice of one beside those of the others.
    async fn measure<R: FnMut(&mut Request) + Send + 'static>(
        &self,
        slices: &mut Slices,
        what: &'static str,
        options: &Options,
        requests: impl Fn(usize) -> R,
    ) -> Result<()> {
        for number in 0..options.slices as usize {
            for turn in 0..NAMES.len() {
                // Each is the first, and follows each other one, as often as the rest.
                let index = (number + if number % 2 == 0 { turn } else { NAMES.len() - turn }) % NAMES.len();
                slices[index].push(slice(&self.0[index], NAMES[index], what, options, &requests).await?);
            }
        }
        Ok(())
    }
}

async fn slice<R: FnMut(&mut Request) + Send + 'static>(
    service: &Service,
    contestant: &'static str,
    what: &'static str,
    options: &Options,
    requests: impl Fn(usize) -> R,
) -> Result<Slice> {
    let measure = Duration::from_secs(options.seconds.into());
    let load = Load {
        address: service.address,
        connections: options.connections,
        warm_up: WARM_UP,
        measure,
        pace: Pace::ClosedLoop,
    };
    let before = ProcessorTime::of(service.pid())?;
    let measured = service.until(load.run(requests)).await?;
    let used = (ProcessorTime::of(service.pid())? - before).total();
    let row = Row::new(contestant, what, options.connections, &measured);
    let own_us = used.as_secs_f64() * 1e6 / measured.succeeded as f64;
    eprintln!("  {row} {own_us:.2} µs");
    Ok(Slice { row, own_us })
}

fn add(report: &mut Report, what: &str, slices: Slices) {
    let [silent, again, telling] = &slices;
    let chance = |figure: Figure| {
        median(silent.iter().zip(again).map(|(silent, again)| figure(again) / figure(silent)).collect())
    };
    // Times the mean of both that tell nothing, in the same round.
    let ratios = |figure: Figure| -> Vec<f64> {
        let rounds = silent.iter().zip(again).zip(telling);
        rounds.map(|((one, other), telling)| 2.0 * figure(telling) / (figure(one) + figure(other))).collect()
    };
    let rate: Figure = |slice| slice.row.per_second;
    let cost: Figure = |slice| slice.own_us;
    for (contestant, slices) in NAMES.iter().zip(&slices) {
        let own_us = median(slices.iter().map(cost).collect());
        let about = format!("processor time of the service for one request, {what}, {contestant}");
        report.facts.push(Fact::new(about, format!("{own_us:.2} µs")));
    }
    for (figure, about) in [(rate, "per second"), (cost, "processor time for one")] {
        let about = format!("{what}, {about}, nothing told twice");
        report.facts.push(Fact::new(about, format!("{:.2} ×", chance(figure))));
    }
    let part = format!("{what} per second, as a part of those with nothing told");
    report.targets.push(Target::new(part, Bound::AtLeast(0.95), ratios(rate)));
    let times = format!("{what}: processor time of the service, times that with nothing told");
    report.targets.push(Target::new(times, Bound::AtMost(1.05), ratios(cost)));
    for slices in slices {
        let rows: Vec<Row> = slices.into_iter().map(|slice| slice.row).collect();
        report.rows.extend(Row::median(&rows));
    }
}

/// One row after the other, beginning at another one for each connection.
fn narrow(rows: Arc<[String]>, connection: usize) -> impl FnMut(&mut Request) + Send + 'static {
    let mut next = connection * 7;
    move |request| {
        next += 1;
        request.get(&rows[next % rows.len()], format_args!(""));
    }
}

fn registrations(connection: usize) -> impl FnMut(&mut Request) + Send + 'static {
    requests::each_new(Command::Register, connection, Arc::<[Uuid]>::from([]))
}

/// A collector in a thread of its own that takes everything and keeps nothing.
struct Sink {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (requests, bytes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let counts = (requests.clone(), bytes.clone());
        let take = async move |body: Bytes| {
            counts.0.fetch_add(1, Relaxed);
            counts.1.fetch_add(body.len() as u64, Relaxed);
        };
        let routes = Router::new().route("/v1/{signal}", post(take));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // It ends with the program.
        std::thread::spawn(move || {
            runtime
                .block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await })
        });
        Ok(Self { address, requests, bytes })
    }
}
