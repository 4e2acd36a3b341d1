//! What it costs to tell a collector: hot narrow reads and registrations, with traces, metrics and logs sent as they are
//! by default, beside the same without. Both run at once and are measured in turn, in slices, so that what drifts favours
//! nobody.

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
use crate::report::{Bound, Fact, Report, Row, Target};
use crate::requests::{self, Command};

const ACCOUNTS: usize = 1_000;
const SILENT: &str = "nothing told";
const TELLING: &str = "told a collector";
const READ: &str = "hot narrow rows";
const REGISTER: &str = "register";
/// A slice's beginning, until connections and caches are as they will stay.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Slices of each contestant under each load
    #[arg(long, default_value_t = 36)]
    slices: u32,

    /// Seconds of a slice
    #[arg(long, default_value_t = 1)]
    seconds: u32,

    /// Number of connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// Two of the same service, of which the second tells.
struct Pair([Service; 2]);

/// What one slice came to.
struct Slice {
    row: Row,
    /// Of the service, for one request.
    own_us: f64,
}

pub async fn measure(options: Options) -> Result<Report> {
    let others = Others::watch()?;
    let sink = Sink::start()?;
    let endpoint = format!("http://{}", sink.address);
    let telling = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];

    let shop = Shop::of_accounts_alone(ACCOUNTS).await?;
    let machine = shop.site.machine().await?;
    let queries = async |settings: &[_]| shop.site.query_service(shop.postgres.url(), settings).await;
    let pair = Pair([queries(&[]).await?, queries(&telling).await?]);
    let rows: Arc<[String]> = shop.accounts.iter().map(paths::narrow).collect();
    let reads = pair.measure(READ, &options, |connection| reads(rows.clone(), connection)).await?;
    drop(pair);

    let sites = [Site::start(1).await?, Site::start(1).await?];
    let pair = Pair([sites[0].command_service().await?, sites[1].command_service_with(&telling).await?]);
    let commands = pair.measure(REGISTER, &options, registrations).await?;
    drop(pair);

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

impl Pair {
    /// By turns, each slice of one beside one of the other.
    async fn measure<R: FnMut(&mut Request) + Send + 'static>(
        &self,
        what: &'static str,
        options: &Options,
        requests: impl Fn(usize) -> R,
    ) -> Result<[Vec<Slice>; 2]> {
        let mut slices = [Vec::new(), Vec::new()];
        for number in 0..options.slices {
            let order = if number.is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for index in order {
                slices[index]
                    .push(slice(&self.0[index], [SILENT, TELLING][index], what, options, &requests).await?);
            }
        }
        Ok(slices)
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

fn add(report: &mut Report, what: &str, [silent, telling]: [Vec<Slice>; 2]) {
    let ratios = |figure: fn(&Slice) -> f64| {
        silent.iter().zip(&telling).map(|(silent, telling)| figure(telling) / figure(silent)).collect()
    };
    let rates = ratios(|slice| slice.row.per_second);
    let costs = ratios(|slice| slice.own_us);
    for (contestant, slices) in [(SILENT, &silent), (TELLING, &telling)] {
        let own_us = crate::report::median(slices.iter().map(|slice| slice.own_us).collect());
        let about = format!("processor time of the service for one request, {what}, {contestant}");
        report.facts.push(Fact::new(about, format!("{own_us:.2} µs")));
    }
    let part = format!("{what} per second, as a part of those with nothing told");
    report.targets.push(Target::new(part, Bound::AtLeast(0.95), rates));
    let times = format!("{what}: processor time of the service, times that with nothing told");
    report.targets.push(Target::new(times, Bound::AtMost(1.05), costs));
    for slices in [silent, telling] {
        let rows: Vec<Row> = slices.into_iter().map(|slice| slice.row).collect();
        report.rows.extend(Row::median(&rows));
    }
}

/// One row after the other, beginning at another one for each connection.
fn reads(rows: Arc<[String]>, connection: usize) -> impl FnMut(&mut Request) + Send + 'static {
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
