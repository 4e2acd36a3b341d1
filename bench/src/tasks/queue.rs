//! The queue of tasks, seen from outside.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::{self, consumer::PullConsumer};
use stack::services::{self, TASK_WORKER};
use tokio::time::sleep;

use crate::contestants::{NAMESPACE, Site};
use crate::http1::{Connection, Request};
use crate::programs;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The welcome emails that are owed.
pub struct Welcomes(PullConsumer);

impl Welcomes {
    /// A task-worker must have run.
    pub async fn of(site: &Site) -> Result<Self> {
        let jetstream = jetstream::new(site.client().await?);
        Ok(Self(jetstream.get_consumer_from_stream("welcome-email", format!("{NAMESPACE}_TASKS")).await?))
    }

    pub async fn owed(&self) -> Result<u64> {
        let info = self.0.get_info().await?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    pub async fn until_owed(&self, is_it: impl Fn(u64) -> bool) -> Result<()> {
        while !is_it(self.owed().await?) {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// How many tasks a task-worker has done since it started.
pub async fn done(worker: SocketAddr) -> Result<u64> {
    let mut connection = Connection::open(worker).await?;
    let mut request = Request::default();
    request.get("/metrics", format_args!(""));
    let answer = connection.call(&request).await?;
    let text = std::str::from_utf8(answer.body)?;
    let done = text.lines().filter(|line| {
        line.starts_with("headwater_task_attempts_total{") && line.contains(r#"outcome="done""#)
    });
    done.map(|line| {
        let count = line.rsplit(' ').next().unwrap_or_default();
        count.parse::<u64>().with_context(|| format!("the task-worker says `{line}`"))
    })
    .sum()
}

/// Owes what the events after a position do, once more.
pub async fn owe_after(site: &Site, position: u64) -> Result<()> {
    let binaries = services::find_or_build(&[TASK_WORKER]).await?;
    let mut command = Command::new(binaries.join(TASK_WORKER));
    command.args(["policies", "restart", "--after", &position.to_string()]);
    command.env("NATS_URL", site.nats.url_as(TASK_WORKER)).env("HEADWATER_NAMESPACE", NAMESPACE);
    let said = programs::output(TASK_WORKER, command).await?;
    ensure!(said.contains(&position.to_string()), "the task-worker says: {said}");
    Ok(())
}
