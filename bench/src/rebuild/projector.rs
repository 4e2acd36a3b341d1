//! The rebuild itself: the projector, a program of its own, in an empty database.

use std::process::Command;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::arena::{Arena, Own};
use super::{ALL_VIEWS, REBUILD, SERVICE, VERIFIED, VERIFY_NONE};
use crate::checkpoints;
use crate::contestants::NAMESPACE;
use crate::processes::{Memory, ProcessorTime};
use crate::report::Pass;
use crate::watched;

/// `projector rebuild`, from its start to its end: `views` alone, or all if none is named.
pub async fn rebuild(arena: &mut Arena, what: &'static str, views: &[&str], verify: &str) -> Result<Pass> {
    arena.databases.renew().await?;
    let mut command = Command::new(arena.databases.binaries.join("projector"));
    command.arg("rebuild").args(if views.is_empty() { &["--all"] } else { views });
    command.args(["--verify", verify]);
    command.env("NATS_URL", arena.site.nats.url_as("projector")).env("HEADWATER_NAMESPACE", NAMESPACE);
    command.env("DATABASE_URL", arena.databases.url());
    let meter = arena.meter()?;
    let own = watched::run("projector rebuild", command, &arena.site.log_file(REBUILD)).await?;
    let contestant = if verify == VERIFY_NONE { REBUILD } else { VERIFIED };
    meter.pass(contestant, what, own)
}

/// The projector as a service over tables that are still empty: from its start until its views are where the log
/// ends; `views` alone, or all if none is named.
pub async fn first_fold(arena: &mut Arena, what: &'static str, views: &[&str]) -> Result<Pass> {
    arena.databases.renew().await?;
    let mut connection = arena.databases.connect().await?;
    let meter = arena.meter()?;
    let projector = arena.site.projector(arena.databases.url(), views).await?;
    let ready = Instant::now();
    let all: Vec<&str> = domain::views::ALL.iter().map(|view| view.name).collect();
    let awaited = if views.is_empty() { &all } else { views };
    projector.until(checkpoints::reach(&mut connection, awaited, arena.events)).await?;
    let elapsed = projector.ready_after + ready.elapsed();
    let own = Own {
        elapsed,
        processor: ProcessorTime::of(projector.pid())?.total(),
        peak_mb: Some(Memory::of(projector.pid())?.peak_mb),
    };
    let pass = meter.pass(SERVICE, what, own)?;
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
