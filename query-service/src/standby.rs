//! Watches the standby, so that queries ask it only while it answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use service_kit::Shutdown;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A standby that does not answer for this long is not asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the standby can be asked, as far as is known.
#[derive(Clone, Debug, Default)]
pub struct Wellness(Arc<AtomicBool>);

impl Wellness {
    pub fn is_well(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Until the next look finds it well.
    pub fn has_failed(&self, reason: &dyn std::fmt::Display) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::warn!(%reason, "the standby is not asked any more: the primary answers");
        }
    }

    fn is_there(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::info!("the standby is asked");
        }
    }
}

/// Watches until `shutdown`, through any absence of the standby.
pub async fn watch(options: PgConnectOptions, wellness: Wellness, shutdown: Shutdown) {
    let watching = async {
        loop {
            let Err(reason) = look(&options, &wellness).await;
            wellness.has_failed(&reason);
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = shutdown.cancelled() => {}
    }
}

/// Looks again and again, until the connection fails.
async fn look(options: &PgConnectOptions, wellness: &Wellness) -> anyhow::Result<std::convert::Infallible> {
    let mut connection = timeout(ANSWER_TIMEOUT, PgConnection::connect_with(options)).await??;
    loop {
        timeout(ANSWER_TIMEOUT, connection.ping()).await??;
        wellness.is_there();
        sleep(LOOK_EVERY).await;
    }
}
