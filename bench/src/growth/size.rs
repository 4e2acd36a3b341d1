//! Everything that is measured at one size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use sqlx::{Connection as _, PgConnection};
use stack::servers::Postgres;
use tokio::task::JoinHandle;

use super::Growth::{self, Bounded, Logarithmic};
use super::{Figure, Options};
use crate::contestants::{NAMESPACE, Service};
use crate::freshness::{self, Probe};
use crate::http1::Request;
use crate::load::{Load, Measured};
use crate::machine::Machine;
use crate::processes::{Memory, ProcessorTime};
use crate::reads::paths;
use crate::reads::shop::Shop;
use crate::requests::{self, Command};
use crate::{cold, folder, replay};

/// What each process may take of memory. That of the writer has a cache of what is on disk, that of the projector holds
/// what is on its way, and NATS is asked to do with 512 MiB (`GOMEMLIMIT`).
const WRITER_MB_MAX: f64 = 250.0;
const PROJECTOR_MB_MAX: f64 = 300.0;
const NATS_MB_MAX: f64 = 700.0;
const QUERIES_MB_MAX: f64 = 100.0;

const CACHE_MIB: u64 = 64;

pub struct Size {
    /// In the log, before anything is measured.
    pub events: u64,
    pub figures: Vec<Figure>,
}

impl Size {
    pub async fn measure(accounts: u64, options: &Options) -> Result<(Self, Machine)> {
        let shop = Shop::open(accounts).await?;
        let machine = shop.site.machine().await?;
        let mut size = Self { events: shop.events, figures: Vec::new() };
        size.the_past(&shop).await?;
        size.commands(&shop, options).await?;
        size.reads(&shop, options).await?;
        Ok((size, machine))
    }

    fn add(&mut self, what: &'static str, growth: Growth, value: f64) {
        self.figures.push(Figure { what, growth, value });
    }

    /// What the log and the views take, and what it took to fold and to export it.
    async fn the_past(&mut self, shop: &Shop) -> Result<()> {
        let events = self.events as f64;
        let each = |time: ProcessorTime| time.total().as_secs_f64() * 1e6 / events;
        self.add(
            "disk, the log: bytes an event",
            Logarithmic,
            folder::bytes(&shop.site.folder_of("nats-1"))? as f64 / events,
        );
        self.add(
            "disk, all views: bytes an event",
            Logarithmic,
            database_bytes(&shop.postgres).await? / events,
        );
        let projector = shop.projector.pid();
        self.add("folding all views: µs an event", Logarithmic, each(ProcessorTime::of(projector)?));
        let postgres = ProcessorTime::of_family(shop.postgres.pid())?;
        self.add("the same, Postgres: µs an event", Logarithmic, each(postgres));
        self.add(
            "memory of the projector: peak, MB",
            Bounded(PROJECTOR_MB_MAX),
            Memory::of(projector)?.peak_mb,
        );
        let export = replay::export(&shop.site, self.events, replay::PARQUET).await?;
        self.add("export into Parquet: µs an event", Logarithmic, export.own_us);
        Ok(())
    }

    async fn commands(&mut self, shop: &Shop, options: &Options) -> Result<()> {
        let service = shop.site.command_service().await?;
        let spent = ProcessorTime::of(service.pid())?.total().as_secs_f64();
        self.add(
            "the writer's state from the log: µs an event",
            Logarithmic,
            spent * 1e6 / self.events as f64,
        );
        let after_folding = Memory::of(service.pid())?;
        service.stop().await;
        let service = shop.site.command_service().await?;
        self.add("start with an up-to-date store: ms", Logarithmic, service.ready_after.as_secs_f64() * 1e3);
        let store = folder::bytes(&shop.site.data_folder())?;
        self.add("disk, the writer's store: bytes an event", Logarithmic, store as f64 / self.events as f64);

        folder::drop_from_page_cache(&shop.site.data_folder())?;
        let (cold, hot) = cold::rename(&service, &shop.accounts, options.commands).await?;
        self.add("command to a cold account: p50 ms", Logarithmic, cold.quantile_ms(0.5));
        self.add("command to a hot account: p50 ms", Logarithmic, hot.quantile_ms(0.5));

        let nats = shop.site.nats.nodes[0].pid();
        let each_new = |connection| requests::each_new(Command::Register, connection, Arc::from([]));
        // It has nothing to do but to listen to signals.
        let queries = shop.query_service(CACHE_MIB).await?;
        let signals = Signals::count(shop.site.client().await?).await?;
        let found = Found::of(&service, [service.pid(), nats, queries.pid()], options, each_new).await?;
        let [service_us, nats_us, listener_us] = found.costs_us;
        self.add("registration: p50 ms", Logarithmic, found.load.quantile_ms(0.5));
        self.add("registration, command-service: µs", Logarithmic, service_us);
        self.add("registration, NATS: µs", Logarithmic, nats_us);
        self.add("signals, a query-service: µs a registration", Logarithmic, listener_us);
        let peak = after_folding.peak_mb.max(Memory::of(service.pid())?.peak_mb);
        self.add("memory of the command-service: peak, MB", Bounded(WRITER_MB_MAX), peak);

        let probe = Probe {
            commands: service.address,
            queries: queries.address,
            warm_up: Duration::ZERO,
            measure: Duration::from_secs_f64(options.seconds),
        };
        freshness::caught_up(&shop.projector, &probe, &shop.postgres).await?;
        let registered = probe.last_position().await? - self.events - 2 * options.commands as u64;
        self.add("signals: bytes a registration", Logarithmic, signals.bytes() as f64 / registered as f64);
        let rows = probe.run("idle").await?;
        let asked_for = rows.iter().find(|row| row.contestant == freshness::ASKED_FOR);
        let visible_ms = asked_for.map_or(f64::NAN, |row| row.p50_ms);
        self.add("visible after its acknowledgement: p50 ms", Logarithmic, visible_ms);
        self.add("memory of NATS: peak, MB", Bounded(NATS_MB_MAX), Memory::of(nats)?.peak_mb);
        Ok(())
    }

    /// Any row without a cache, and a thousand of them from one.
    async fn reads(&mut self, shop: &Shop, options: &Options) -> Result<()> {
        let service = shop.query_service(0).await?;
        let postgres = shop.postgres.pid();
        let [rows, lists] = [paths::narrow, paths::orders].map(|path| {
            let all: Arc<[String]> = shop.accounts.iter().map(path).collect();
            move |connection| requests::gets(all.clone(), connection)
        });
        let pids = [service.pid(), postgres];
        let found = Found::of(&service, pids, options, rows).await?;
        self.add("a row: p50 ms", Logarithmic, found.load.quantile_ms(0.5));
        self.add("a row, query-service: µs", Logarithmic, found.costs_us[0]);
        self.add("a row, Postgres: µs", Logarithmic, found.costs_us[1]);
        let found = Found::of(&service, pids, options, lists).await?;
        self.add("orders of an account: p50 ms", Logarithmic, found.load.quantile_ms(0.5));
        self.add("orders of an account, query-service: µs", Logarithmic, found.costs_us[0]);
        self.add("orders of an account, Postgres: µs", Logarithmic, found.costs_us[1]);
        let memory = Memory::of(service.pid())?;
        self.add("memory of the query-service, no cache: peak, MB", Bounded(QUERIES_MB_MAX), memory.peak_mb);
        service.stop().await;

        let service = shop.query_service(CACHE_MIB).await?;
        let popular: Arc<[String]> = shop.accounts[..paths::HOT].iter().map(paths::narrow).collect();
        let hits = |connection| requests::gets(popular.clone(), connection);
        let found = Found::of(&service, [service.pid()], options, hits).await?;
        self.add("a row from the cache: p50 ms", Logarithmic, found.load.quantile_ms(0.5));
        self.add("a row from the cache, query-service: µs", Logarithmic, found.costs_us[0]);
        Ok(())
    }
}

/// A load, and what one of its requests costs of processor time.
struct Found<const PROCESSES: usize> {
    load: Measured,
    costs_us: [f64; PROCESSES],
}

impl<const PROCESSES: usize> Found<PROCESSES> {
    /// On a service, and what it costs these processes, with all that they have started.
    async fn of<R: FnMut(&mut Request) + Send + 'static>(
        service: &Service,
        pids: [u32; PROCESSES],
        options: &Options,
        requests: impl Fn(usize) -> R,
    ) -> Result<Self> {
        let load = Load::closed_loop(service.address, options.connections, 0.0, options.seconds);
        service.until(load.run(&requests)).await?;
        let used = || pids.map(|pid| ProcessorTime::of_family(pid).unwrap_or_default());
        let before = used();
        let load = service.until(load.run(&requests)).await?;
        ensure!(load.errors.is_empty(), "{:?}", load.errors);
        let after = used();
        let costs_us = std::array::from_fn(|index| {
            (after[index] - before[index]).total().as_secs_f64() * 1e6 / load.succeeded as f64
        });
        Ok(Self { load, costs_us })
    }
}

/// What the projector tells replicas, until this is dropped.
struct Signals {
    bytes: Arc<AtomicU64>,
    counting: JoinHandle<()>,
}

impl Signals {
    async fn count(client: async_nats::Client) -> Result<Self> {
        let mut signals = client.subscribe(format!("{NAMESPACE}.signals.>")).await?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = bytes.clone();
        let counting = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                counted.fetch_add(signal.length as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { bytes, counting })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

async fn database_bytes(postgres: &Postgres) -> Result<f64> {
    let mut database = PgConnection::connect(&postgres.url()).await?;
    let bytes: i64 =
        sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(&mut database).await?;
    Ok(bytes as f64)
}
