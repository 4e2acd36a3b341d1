//! Emails that are made and thrown away, while nobody asks for anything.

use anyhow::Result;
use event_log::EventLog;
use tokio::time::Instant;

use super::{Found, Options, queue::Welcomes};
use crate::contestants::{NAMESPACE, Site};
use crate::fill;

pub async fn measure(options: &Options, found: &mut Found) -> Result<()> {
    for run in 0..options.runs {
        let site = Site::start(1).await?;
        found.machine.get_or_insert(site.machine().await?);
        fill::accounts(&EventLog::new(site.client().await?, NAMESPACE), options.tasks).await?;
        // It says how busy it is; without that, tasks would be done at a bounded rate.
        let _commands = site.command_service().await?;
        let begun = Instant::now();
        let worker = site.task_worker("null:", &[("HEADWATER_POLICY_START", "welcome-email=0")]).await?;
        let drained = async {
            let welcomes = Welcomes::of(&site).await?;
            welcomes.until_owed(|owed| owed > 0).await?;
            welcomes.until_owed(|owed| owed == 0).await
        };
        worker.until(drained).await?;
        // From the start of the program on: reading the log, planning, and beginning slowly are a part of it.
        let per_second = options.tasks as f64 / begun.elapsed().as_secs_f64();
        eprintln!("  run {}: {per_second:.0} tasks/s", run + 1);
        found.drained_per_second.push(per_second);
    }
    Ok(())
}
