//! The rebuild itself: the projector, a program of its own, in an empty database.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::arena::{Arena, Own};
use super::{ALL_VIEWS, PROJECTOR};
use crate::processes::{Memory, ProcessorTime};
use crate::report::Pass;

const POLL_EVERY: Duration = Duration::from_millis(20);
/// A rebuild that has come no further for so long has failed.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// From the projector's start until its views are where the log ends; `views` alone, or all if none is named.
pub async fn pass(arena: &mut Arena, what: &'static str, views: &[&str]) -> Result<Pass> {
    arena.databases.renew().await?;
    let mut connection = arena.databases.connect().await?;
    let meter = arena.meter()?;
    let projector = arena.site.projector(arena.databases.url(), views).await?;
    let ready = Instant::now();
    let all: Vec<&str> = domain::views::ALL.iter().map(|view| view.name).collect();
    let awaited = if views.is_empty() { &all } else { views };
    projector.until(reached(&mut connection, awaited, arena.events)).await?;
    let elapsed = projector.ready_after + ready.elapsed();
    let own = Own {
        elapsed,
        processor: ProcessorTime::of(projector.pid())?.total(),
        peak_mb: Some(Memory::of(projector.pid())?.peak_mb),
    };
    let pass = meter.pass(PROJECTOR, what, own)?;
    if what == ALL_VIEWS {
        arena.ready_after_s.push(projector.ready_after.as_secs_f64());
    }
    projector.stop().await;
    let others: Vec<String> =
        sqlx::query_scalar("select view from checkpoints where position > 0 and view <> all($1)")
            .bind(awaited)
            .fetch_all(&mut connection)
            .await?;
    ensure!(others.is_empty(), "the projector was told to fold {views:?} alone, and folded {others:?}, too");
    Ok(pass)
}

async fn reached(connection: &mut PgConnection, views: &[&str], end: u64) -> Result<()> {
    let (mut known, mut since) = (Vec::new(), Instant::now());
    loop {
        let positions: Vec<(String, i64)> =
            sqlx::query_as("select view, position from checkpoints where view = any($1) order by view")
                .bind(views)
                .fetch_all(&mut *connection)
                .await?;
        if positions.len() != views.len() {
            bail!("there are checkpoints of {positions:?} only, not of all of {views:?}");
        }
        if positions.iter().all(|(_, position)| position.cast_unsigned() >= end) {
            return Ok(());
        }
        if positions != known {
            (known, since) = (positions, Instant::now());
        } else if since.elapsed() > STUCK_AFTER {
            bail!("the views have come no further than {known:?} for {STUCK_AFTER:?}; the log ends at {end}");
        }
        sleep(POLL_EVERY).await;
    }
}
