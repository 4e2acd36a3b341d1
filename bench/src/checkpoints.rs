//! How far views are folded.

use std::time::Duration;

use anyhow::{Result, bail};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

const POLL_EVERY: Duration = Duration::from_millis(20);
/// Views that have come no further for so long have failed.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Waits until all of these views are folded up to `end`, which is looked for every 20 ms.
pub async fn reach(connection: &mut PgConnection, views: &[&str], end: u64) -> Result<()> {
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
