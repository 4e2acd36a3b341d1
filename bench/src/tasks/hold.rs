//! As many reads as the service can answer, with tasks that wait and without any.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::{
    Found, Options,
    queue::{Welcomes, done, owe_after},
};
use crate::contestants::Service;
use crate::reads::{paths, shop::Shop};
use crate::report::Row;
use crate::wrk::{Paths, Strength, Wrk};

const ACCOUNTS: usize = 100_000;
const CACHE_MIB: u64 = 256;
/// With one thread wrk is slower than the service, which then has time.
const THREADS: usize = 2;
/// Until all tasks are held and planned.
const WARM_UP: u32 = 4;
/// Into the warm-up, tasks are owed.
const OWE_AFTER: Duration = Duration::from_secs(1);

const READS: &str = "hot narrow rows";
const NO_TASKS: &str = "no tasks";
const TASKS_WAIT: &str = "tasks wait";

/// What is there in each run.
struct Stage<'a> {
    shop: &'a Shop,
    wrk: &'a Wrk,
    hot: &'a Paths,
    queries: &'a Service,
    worker: &'a Service,
    welcomes: Welcomes,
    options: &'a Options,
}

pub async fn measure(options: &Options, found: &mut Found) -> Result<()> {
    let shop = Shop::of_accounts_alone(ACCOUNTS).await?;
    found.machine.get_or_insert(shop.site.machine().await?);
    let folder = tempfile::tempdir()?;
    let strength = Strength {
        connections: options.connections,
        threads: THREADS,
        seconds: options.seconds,
        warm_up: WARM_UP,
    };
    let wrk = Wrk::new(folder.path(), strength)?;
    let narrow: Vec<String> = shop.accounts.iter().map(paths::narrow).collect();
    let hot = wrk.paths("hot", paths::popular(&narrow))?;
    let queries = shop.query_service(CACHE_MIB).await?;
    let _commands = shop.site.command_service().await?;
    let worker = shop.site.task_worker("null:", &[]).await?;
    let welcomes = Welcomes::of(&shop.site).await?;
    let stage =
        Stage { shop: &shop, wrk: &wrk, hot: &hot, queries: &queries, worker: &worker, welcomes, options };
    for run in 0..options.runs {
        // Every other run in the other order, so that what drifts favours nobody.
        let (without, with) = if run.is_multiple_of(2) {
            let without = stage.read(NO_TASKS).await?;
            (without, worker.until(stage.read_while_tasks_wait(found)).await?)
        } else {
            let with = worker.until(stage.read_while_tasks_wait(found)).await?;
            (stage.read(NO_TASKS).await?, with)
        };
        found.p99_times.push(with.p99_ms / without.p99_ms);
        found.rows.extend([without, with]);
    }
    Ok(())
}

impl Stage<'_> {
    async fn read(&self, contestant: &'static str) -> Result<Row> {
        self.wrk.run(contestant, READS, self.queries.address, self.hot).await
    }

    async fn read_while_tasks_wait(&self, found: &mut Found) -> Result<Row> {
        let owing = async {
            sleep(OWE_AFTER).await;
            owe_after(&self.shop.site, (ACCOUNTS as u64).saturating_sub(self.options.waiting)).await?;
            sleep(Duration::from_secs(WARM_UP.into()) - OWE_AFTER).await;
            anyhow::Ok((done(self.worker.address).await?, Instant::now()))
        };
        let (row, owed) = tokio::join!(self.read(TASKS_WAIT), owing);
        let ((before, since), after) = (owed?, done(self.worker.address).await?);
        found.held_per_second.push((after - before) as f64 / since.elapsed().as_secs_f64());
        let waiting = self.welcomes.owed().await?;
        ensure!(waiting > self.options.waiting / 2, "only {waiting} tasks wait: is the machine busy enough?");
        let ended = Instant::now();
        self.welcomes.until_owed(|owed| owed == 0).await?;
        found.freed_per_second.push(waiting as f64 / ended.elapsed().as_secs_f64());
        row
    }
}
