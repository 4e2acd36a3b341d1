//! What every test starts from: a NATS and a Postgres that all tests of the process share, and a
//! [`World`], the three services in a namespace and a database that no other test knows.

mod call;
mod place;
mod service;
mod world;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use stack::{
    servers::{Nats, Postgres, ServerConfig, temporary_folder},
    services::{self, COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER},
};
use tokio::sync::{Mutex, OnceCell};

pub use call::{Answer, Call};
pub use place::Place;
pub use service::{Served, Service};
pub use world::World;

/// Nothing that a test waits for takes this long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The servers that the tests of this process share.
pub struct Servers {
    pub nats: Nats,
    pub postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Servers {
    /// Where the NATS server keeps its streams.
    pub fn streams(&self) -> PathBuf {
        self.folder.path().join("nats/jetstream")
    }

    /// The shared ones. They stop when the last test that uses them is over.
    pub async fn shared() -> Arc<Self> {
        static SERVERS: Mutex<Weak<Servers>> = Mutex::const_new(Weak::new());
        let mut shared = SERVERS.lock().await;
        if let Some(servers) = shared.upgrade() {
            return servers;
        }
        let servers = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&servers);
        servers
    }

    /// Servers of one's own, to be maltreated.
    pub async fn start() -> Self {
        Self::around(async |config| Nats::start(config).await.unwrap()).await
    }

    /// The same, whose users may use one namespace.
    pub async fn start_for(namespace: &str) -> Self {
        Self::around(async |config| Nats::start_for(config, namespace).await.unwrap()).await
    }

    /// The same, whose NATS is the centre of regions with leaf nodes.
    pub async fn start_hub() -> Self {
        Self::around(async |config| Nats::start_hub(config).await.unwrap()).await
    }

    /// The same Postgres beside another NATS.
    pub fn with_nats(self, nats: Nats) -> Self {
        Self { nats, ..self }
    }

    async fn around(nats: impl AsyncFnOnce(ServerConfig) -> Nats) -> Self {
        let folder = temporary_folder().unwrap();
        let config = |name: &str| ServerConfig::within(folder.path().join(name)).unwrap();
        let nats = nats(config("nats")).await;
        // All tests' services connect to this one server.
        let settings = [("max_connections", "400")];
        let postgres = Postgres::start(config("postgres"), &settings).await.unwrap();
        Self { nats, postgres, folder }
    }
}

/// Every view is folded up to the end of the log, and is what the log folds to.
pub async fn verify(place: &Place) {
    let log = place.log().await;
    let head = log.head().await.unwrap().position;
    let mut database = place.database().await;
    until("every view is folded up to the end of the log", async || {
        let least = sqlx::query_scalar("select min(position) from checkpoints join views on name = view and views.build = checkpoints.build").fetch_one(&mut database);
        let least: i64 = least.await.unwrap();
        least as u64 >= head
    })
    .await;
    let report = replay::verify(&log, &place.database_url_as("replay"), |_| ()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// The folder with the programs that the tests start, all built together before the first of them is.
pub async fn programs() -> &'static Path {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let all = [COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER, "replay", "stack"];
    FOLDER.get_or_init(async || services::find_or_build(&all).await.unwrap()).await
}

/// Waits until `condition` holds; panics with `what` if it never does.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("waited in vain until {what}");
    }
}
