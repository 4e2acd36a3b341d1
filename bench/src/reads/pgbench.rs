//! pgbench, PostgreSQL's own benchmark: reads by primary key that are prepared, and nothing in between.

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};
use stack::servers::Postgres;

use crate::programs;
use crate::report::Row;

const DATABASE: &str = "pgbench";
/// 100,000 rows each.
const SCALE: usize = 1;

pub const CLIENTS: usize = 16;

/// Fills a database of its own.
pub async fn fill(postgres: &Postgres) -> Result<()> {
    let mut admin = PgConnection::connect(&postgres.url()).await?;
    sqlx::query("create database pgbench").execute(&mut admin).await?;
    let scale = format!("--scale={SCALE}");
    run(postgres, &["--initialize", &scale, "--quiet"]).await?;
    Ok(())
}

/// `pgbench -S -M prepared` with 16 clients.
pub async fn read(postgres: &Postgres, what: &'static str, seconds: u32) -> Result<Row> {
    let (clients, jobs) =
        (format!("--client={CLIENTS}"), format!("--jobs={}", std::thread::available_parallelism()?));
    let time = format!("--time={seconds}");
    let told = run(postgres, &["--select-only", "--protocol=prepared", &clients, &jobs, &time]).await?;
    let figure = |name: &str| -> Result<f64> {
        let line = told.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().find_map(|word| word.parse().ok()));
        value.with_context(|| format!("pgbench did not tell `{name}`: {told}"))
    };
    let mean_ms = figure("latency average =")?;
    let row = Row {
        contestant: "pgbench",
        what,
        connections: CLIENTS,
        per_second: figure("tps =")?,
        mean_ms,
        // It tells no more without a log of each transaction.
        p50_ms: f64::NAN,
        p99_ms: f64::NAN,
        errors: figure("number of failed transactions:")? as u64,
    };
    eprintln!("  {row}");
    Ok(row)
}

async fn run(postgres: &Postgres, args: &[&str]) -> Result<String> {
    let mut pgbench = postgres.client("pgbench", DATABASE);
    pgbench.args(args);
    programs::output("pgbench", pgbench).await
}
