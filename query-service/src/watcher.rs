//! Keeps what the service knows about the database up to date: whether it can be reached, the catalog, and
//! the checkpoints. It has a connection of its own, so that a busy pool is not mistaken for a lost database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, connection::State};
use service_kit::{Health, Shutdown};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{
    catalog::{self, Catalog, LoadError},
    positions::Positions,
    served::{ServedViews, served},
};

/// The name of the check in `/health/ready`.
pub const HEALTH: &str = "views";

/// How often the checkpoints are read while a query waits for a position: what a lost signal costs at most.
pub const POLL_EVERY: Duration = Duration::from_millis(25);
/// How often they are read otherwise: what it takes to notice that the database is gone.
const PING_EVERY: Duration = Duration::from_millis(250);
/// How often the catalog is read again without being asked: what a lost reset costs at most.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// A database that does not answer for this long is as good as gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a replica that has just started waits for the projector's word of each view, two of its heartbeats:
/// until then it answers nothing from memory, and would be slow just when it is given its share of the requests.
const WARM_UP_MAX: Duration = Duration::from_millis(500);
/// How often it looks whether it has heard all of them.
const WARM_UP_LOOK_EVERY: Duration = Duration::from_millis(10);

const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);

/// What is known about the views.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last catalog that was read; it stays while the database is away.
    pub catalog: Option<Arc<Catalog>>,
    /// Its views.
    pub views: Arc<ServedViews>,
    /// Why the views cannot be read at the moment, in words for a client.
    pub trouble: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("Postgres cannot be reached")]
    Unreachable(#[from] sqlx::Error),
    #[error("Postgres does not answer")]
    Silent,
    #[error(transparent)]
    Catalog(#[from] LoadError),
}

pub struct Watcher {
    pub options: PgConnectOptions,
    pub known: watch::Sender<Known>,
    pub positions: Arc<Positions>,
    /// Asks for the catalog to be read again.
    pub reload: Arc<Notify>,
    pub health: Health,
    /// Over which the signals come, if NATS is there.
    pub client: Client,
}

impl Watcher {
    /// Watches until `shutdown`, through any absence of the database.
    pub async fn run(self, shutdown: Shutdown) {
        tokio::select! {
            () = self.watch_for_ever() => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn watch_for_ever(&self) {
        let mut delay = RETRY_DELAY_MIN;
        loop {
            let mut was_well = false;
            let Err(error) = self.watch(&mut was_well).await;
            if was_well {
                // Perhaps only this connection is gone; the next attempt will show.
                delay = RETRY_DELAY_MIN;
                tracing::debug!(%error, "lost the watcher's connection");
            } else {
                self.is_in_trouble(&error);
                sleep(delay).await;
                delay = (delay * 2).min(RETRY_DELAY_MAX);
            }
        }
    }

    async fn watch(&self, was_well: &mut bool) -> Result<std::convert::Infallible, WatchError> {
        let mut connection = in_time(PgConnection::connect_with(&self.options)).await??;
        let has_just_started = self.known.borrow().catalog.is_none();
        self.load(&mut connection).await?;
        if has_just_started {
            self.warm_up().await;
        }
        // Not before the positions of the primary are known: a standby must not show what is older.
        self.health.pass(HEALTH);
        *was_well = true;
        let mut loaded = Instant::now();
        loop {
            let polled = Instant::now();
            let waited_for = async {
                self.positions.waited_for().await;
                sleep(POLL_EVERY.saturating_sub(polled.elapsed())).await;
            };
            tokio::select! {
                () = self.reload.notified() => loaded = polled - REFRESH_EVERY,
                () = waited_for => {}
                () = sleep(PING_EVERY) => {}
            }
            if loaded.elapsed() >= REFRESH_EVERY {
                self.load(&mut connection).await?;
                loaded = Instant::now();
            } else {
                self.read_positions(&mut connection).await?;
            }
        }
    }

    async fn load(&self, connection: &mut PgConnection) -> Result<(), WatchError> {
        let catalog = in_time(catalog::load(connection)).await??;
        self.positions.track(catalog.views.keys());
        self.is_well(catalog);
        self.read_positions(connection).await
    }

    async fn read_positions(&self, connection: &mut PgConnection) -> Result<(), WatchError> {
        let read = sqlx::query_as(
            "select v.name, v.term, c.position from checkpoints c join views v on v.name = c.view and v.build = c.build",
        )
        .fetch_all(connection);
        let rows: Vec<(String, i64, i64)> = in_time(read).await??;
        let views = self.known.borrow().views.clone();
        for (view, term, position) in rows {
            self.positions.advance(&view, position);
            if let Some(served) = views.get(view.as_str()) {
                served.coherence.compare(term.cast_unsigned(), position.cast_unsigned(), Instant::now());
            }
        }
        Ok(())
    }

    fn is_well(&self, catalog: Catalog) {
        self.known.send_modify(|known| {
            if known.catalog.as_deref() != Some(&catalog) {
                let views: Vec<&str> = catalog.views.keys().map(AsRef::as_ref).collect();
                tracing::info!(views = views.join(" "), "read the catalog");
            } else if known.trouble.is_some() {
                tracing::info!("the views can be read again");
            }
            known.views = Arc::new(served(&catalog, &known.views));
            known.catalog = Some(Arc::new(catalog));
            known.trouble = None;
        });
    }

    /// Waits until every view's signals are heard, if they can be.
    async fn warm_up(&self) {
        let views = self.known.borrow().views.clone();
        let hears = || {
            let now = Instant::now();
            views.values().all(|served| served.coherence.timeline().is_heard(now))
        };
        let started = Instant::now();
        while self.client.connection_state() != State::Disconnected
            && !hears()
            && started.elapsed() < WARM_UP_MAX
        {
            sleep(WARM_UP_LOOK_EVERY).await;
        }
    }

    fn is_in_trouble(&self, error: &WatchError) {
        let trouble = error.to_string();
        let reason = with_cause(error);
        self.health.fail(HEALTH, &reason);
        self.known.send_if_modified(|known| {
            let news = known.trouble.as_ref() != Some(&trouble);
            if news {
                tracing::warn!(reason, "the views cannot be read");
                known.trouble = Some(trouble);
            }
            news
        });
    }
}

/// The error and its cause, for those who run the service.
fn with_cause(error: &WatchError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

async fn in_time<F: Future>(work: F) -> Result<F::Output, WatchError> {
    timeout(ANSWER_TIMEOUT, work).await.map_err(|_| WatchError::Silent)
}
