//! What the cache takes of memory: for an entry, and at the most.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::paths;
use super::shop::Shop;
use crate::http1::{Connection, Request};
use crate::processes::Memory;
use crate::report::{Bound, Fact, Target};

const CONNECTIONS: usize = 64;
/// More than a million narrow rows take.
const ROOMY_MIB: u64 = 2048;
const LIMIT_MIB: u64 = 64;
const BYTES_A_MIB: f64 = 1024.0 * 1024.0;

/// In mebibytes, what is resident.
pub struct Found {
    rows: usize,
    /// Without a cache, after every row was read once.
    uncached: f64,
    /// With room for all rows, after every row was read once.
    roomy: f64,
    /// With room for some, the most that ever was, while every row was read twice.
    limited_peak: f64,
}

pub async fn measure(shop: &Shop) -> Result<Found> {
    let accounts: Arc<[Uuid]> = shop.accounts.as_slice().into();
    let uncached = after_reading(shop, 0, &accounts, 1).await?.resident_mb;
    let roomy = after_reading(shop, ROOMY_MIB, &accounts, 1).await?.resident_mb;
    let limited_peak = after_reading(shop, LIMIT_MIB, &accounts, 2).await?.peak_mb;
    let mib = |mb: f64| mb * 1e6 / BYTES_A_MIB;
    Ok(Found {
        rows: accounts.len(),
        uncached: mib(uncached),
        roomy: mib(roomy),
        limited_peak: mib(limited_peak),
    })
}

impl Found {
    pub fn facts(&self) -> Vec<Fact> {
        let an_entry = (self.roomy - self.uncached) * BYTES_A_MIB / self.rows as f64;
        let mib = |what: String, value: f64| Fact::new(what, format!("{value:.0} MiB"));
        vec![
            Fact::new("memory of an entry", format!("{an_entry:.0} bytes")),
            mib("resident without a cache".to_owned(), self.uncached),
            mib(format!("resident with all of {} narrow rows in the cache", self.rows), self.roomy),
            mib(format!("peak with a cache of {LIMIT_MIB} MiB"), self.limited_peak),
        ]
    }

    pub fn targets(&self) -> Vec<Target> {
        let what = format!("a cache of {LIMIT_MIB} MiB: peak, more than without a cache, MiB");
        vec![Target::new(what, Bound::AtMost(LIMIT_MIB as f64), vec![self.limited_peak - self.uncached])]
    }
}

async fn after_reading(shop: &Shop, cache_mib: u64, accounts: &Arc<[Uuid]>, times: usize) -> Result<Memory> {
    eprintln!("reading each of {} rows {times} times, with a cache of {cache_mib} MiB", accounts.len());
    let service = shop.query_service(cache_mib).await?;
    for _ in 0..times {
        service.until(read_each_once(service.address, accounts)).await?;
    }
    let memory = Memory::of(service.pid())?;
    eprintln!("  {:.0} MB resident, peak {:.0} MB", memory.resident_mb, memory.peak_mb);
    service.stop().await;
    Ok(memory)
}

/// The connections share the rows.
async fn read_each_once(service: SocketAddr, accounts: &Arc<[Uuid]>) -> Result<()> {
    let mut readers = JoinSet::new();
    for number in 0..CONNECTIONS {
        let accounts = accounts.clone();
        readers.spawn(async move {
            let mut connection = Connection::open(service).await?;
            let mut request = Request::default();
            for account in accounts.iter().skip(number).step_by(CONNECTIONS) {
                request.get(&paths::narrow(account), format_args!(""));
                let answer = connection.call(&request).await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
            }
            Ok(())
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended??;
    }
    Ok(())
}
