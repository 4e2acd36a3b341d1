//! Registrations, one after the other, with a task-worker that throws emails away, with one that has no mail server, and without
//! a task-worker.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Result;

use super::{Found, Options};
use crate::contestants::Site;
use crate::load::{Load, Pace};
use crate::report::Row;
use crate::requests::{self, Command};

const WARM_UP: Duration = Duration::from_secs(2);

const NO_WORKER: &str = "no task-worker";
const MAIL_UP: &str = "emails thrown away";
const MAIL_DOWN: &str = "no mail server";

pub async fn measure(options: &Options, found: &mut Found) -> Result<()> {
    for run in 0..options.runs {
        let mut order = [NO_WORKER, MAIL_UP, MAIL_DOWN];
        // What drifts favours nobody.
        order.rotate_left(run as usize % 3);
        let mut rows = Vec::new();
        for contestant in order {
            rows.push(register(options, found, contestant).await?);
        }
        let mean = |contestant| rows.iter().find(|row| row.contestant == contestant).map(|row| row.mean_ms);
        if let (Some(none), Some(up), Some(down)) = (mean(NO_WORKER), mean(MAIL_UP), mean(MAIL_DOWN)) {
            found.down_times_up.push(down / up);
            found.up_times_none.push(up / none);
        }
        found.rows.extend(rows);
    }
    Ok(())
}

async fn register(options: &Options, found: &mut Found, contestant: &'static str) -> Result<Row> {
    let site = Site::start(1).await?;
    found.machine.get_or_insert(site.machine().await?);
    let commands = site.command_service().await?;
    let worker = match contestant {
        MAIL_UP => Some(site.task_worker("null:", &[]).await?),
        MAIL_DOWN => Some(site.task_worker(&nobody()?, &[]).await?),
        _ => None,
    };
    let load = Load {
        address: commands.address,
        connections: 1,
        warm_up: WARM_UP,
        measure: Duration::from_secs(options.seconds.into()),
        pace: Pace::ClosedLoop,
    };
    let measured =
        load.run(|connection| requests::each_new(Command::Register, connection, [].into())).await?;
    drop(worker);
    let row = Row::new(contestant, "register", 1, &measured);
    eprintln!("  {row}");
    Ok(row)
}

/// A mail server that is not there.
fn nobody() -> Result<String> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(format!("smtp://127.0.0.1:{port}"))
}
