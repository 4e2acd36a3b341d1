//! A long history: how soon its state is rebuilt and opened again, what that takes of memory and disk, and what a
//! command costs on an account that nobody has commanded for long.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use event_log::EventLog;
use tokio::time::Instant;
use uuid::Uuid;

use crate::contestants::{NAMESPACE, Service, Site};
use crate::fill;
use crate::folder;
use crate::http1::{Connection, Request};
use crate::load::Measured;
use crate::processes::{Memory, Others};
use crate::report::{Bound, Fact, Report, Row, Target};
use crate::requests;

/// Accounts that are commanded again and again.
const HOT_ACCOUNTS: usize = 20;
const RENAMES_BEFORE: usize = 200;

const REBUILT_PER_SECOND: f64 = 200_000.0;
const READY_WITHIN_S: f64 = 2.0;
const RESIDENT_MB_MAX: f64 = 250.0;
const COLD_SURPLUS_MS: f64 = 2.0;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Accounts in the log
    #[arg(long, default_value_t = 1_000_000)]
    accounts: usize,

    /// Commands to cold accounts, and as many to hot ones
    #[arg(long, default_value_t = 2000)]
    commands: usize,

    /// Leave the store's files in the system's page cache; otherwise they are dropped from it before the commands
    /// (except pages that are mapped into memory, which the system keeps)
    #[arg(long)]
    keep_page_cache: bool,
}

pub async fn measure(options: Options) -> Result<Report> {
    ensure!(options.accounts > options.commands + HOT_ACCOUNTS, "more accounts than commands are needed");
    let site = Site::start(1).await?;
    let machine = site.machine().await?;
    let log = EventLog::new(site.client().await?, NAMESPACE);
    eprintln!("filling the log with {} accounts", options.accounts);
    let filling = Instant::now();
    let accounts = fill::accounts(&log, options.accounts).await?;
    let filled = filling.elapsed();

    eprintln!("starting without a store");
    let service = site.command_service().await?;
    let (rebuilt, after_rebuild) = (service.ready_after, Memory::of(service.pid())?);
    service.stop().await;
    eprintln!("starting again");
    let service = site.command_service().await?;
    let (reopened, after_reopening) = (service.ready_after, Memory::of(service.pid())?);
    let store_bytes = folder::bytes(&site.data_folder())?;
    if !options.keep_page_cache {
        folder::drop_from_page_cache(&site.data_folder())?;
    }

    eprintln!("commanding");
    let others = Others::watch()?;
    let (cold, hot) = rename(&service, &accounts, options.commands).await?;
    let others = others.cores()?;
    let rows =
        [("cold", &cold), ("hot", &hot)].map(|(what, measured)| Row::new("headwater", what, 1, measured));
    let after_commands = Memory::of(service.pid())?;
    let peak = after_rebuild.peak_mb.max(after_commands.peak_mb);

    let memory = |memory: Memory| {
        let Memory { resident_mb, peak_mb, anonymous_mb } = memory;
        format!("{resident_mb:.0} MB resident ({anonymous_mb:.0} anonymous), peak {peak_mb:.0} MB")
    };
    let rate = options.accounts as f64 / rebuilt.as_secs_f64();
    let p50 = |row: &Row| row.p50_ms;
    Ok(Report {
        benchmark: "cold",
        settings: format!("{} accounts, {} commands of each kind", options.accounts, options.commands),
        machine,
        facts: vec![
            Fact::new("filling the log", seconds(filled)),
            Fact::new("ready without a store", format!("{} ({rate:.0} events/s)", seconds(rebuilt))),
            Fact::new("memory after rebuilding", memory(after_rebuild)),
            Fact::new("ready with an up-to-date store", seconds(reopened)),
            Fact::new("memory after opening", memory(after_reopening)),
            Fact::new("memory after the commands", memory(after_commands)),
            Fact::new("store on disk", format!("{:.0} MB", store_bytes as f64 / 1e6)),
            Fact::others(others),
            Fact::new("cold p99 less hot p99", format!("{:.2} ms", rows[0].p99_ms - rows[1].p99_ms)),
        ],
        targets: vec![
            Target::new("rebuild, events/s", Bound::AtLeast(REBUILT_PER_SECOND), vec![rate]),
            Target::new(
                "start with an up-to-date store, s",
                Bound::AtMost(READY_WITHIN_S),
                vec![reopened.as_secs_f64()],
            ),
            Target::new("peak resident memory, MB", Bound::AtMost(RESIDENT_MB_MAX), vec![peak]),
            Target::new(
                "cold p50 less hot p50, ms",
                Bound::AtMost(COLD_SURPLUS_MS),
                vec![p50(&rows[0]) - p50(&rows[1])],
            ),
        ],
        rows: rows.into(),
        passes: Vec::new(),
    })
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Renames, one at a time, a cold and a hot account in turn, so that whatever else the machine does meets both.
pub async fn rename(service: &Service, accounts: &[Uuid], commands: usize) -> Result<(Measured, Measured)> {
    let (hot_accounts, cold_accounts) = accounts.split_at(HOT_ACCOUNTS);
    let mut client = Client::new(service).await?;
    for index in 0..RENAMES_BEFORE {
        client.rename(hot_accounts[index % HOT_ACCOUNTS]).await?;
    }
    let (mut cold, mut hot) = (Measured::new(Duration::ZERO)?, Measured::new(Duration::ZERO)?);
    let stride = stride(cold_accounts.len());
    for index in 0..commands {
        cold.took(client.rename(cold_accounts[index * stride % cold_accounts.len()]).await?)?;
        hot.took(client.rename(hot_accounts[index % HOT_ACCOUNTS]).await?)?;
    }
    Ok((cold, hot))
}

/// Steps of this length reach each of `count` places once before they come back to the first, and spread over
/// all of them from the start.
fn stride(count: usize) -> usize {
    let golden = (count as f64 * 0.618) as usize;
    (golden.max(1)..).find(|step| greatest_common_divisor(*step, count) == 1).unwrap_or(1)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

struct Client {
    connection: Connection,
    request: Request,
    renamed: usize,
}

impl Client {
    async fn new(service: &Service) -> Result<Self> {
        let connection = Connection::open(service.address).await?;
        Ok(Self { connection, request: Request::default(), renamed: 0 })
    }

    async fn rename(&mut self, account: Uuid) -> Result<Duration> {
        self.renamed += 1;
        requests::rename(&mut self.request, account, format_args!("Name {}", self.renamed));
        let sent = Instant::now();
        let answer = self.connection.call(&self.request).await?;
        ensure!(answer.status == 200, "{}", String::from_utf8_lossy(answer.body));
        Ok(sent.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_reach_every_place_once() {
        for count in [1, 2, 10, 999] {
            let mut reached: Vec<usize> = (0..count).map(|index| index * stride(count) % count).collect();
            reached.sort_unstable();
            assert!(reached.into_iter().eq(0..count));
        }
    }
}
