//! What people would build instead, to compare with: each from packages that are pinned and fetched, in processes of
//! its own, over a Postgres of its own with the settings that ours has. Their sources are in `bench/peers`.

pub mod django;

mod cqrs_es;
mod emmett;
mod packages;
mod umadb;

use anyhow::Result;
use clap::ValueEnum;
use stack::servers::Postgres;

use crate::contestants::{Service, Site};
use crate::report::Fact;

pub use umadb::UmaDb;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Django with DRF, psycopg 3, gunicorn and Postgres
    Django,
    /// cqrs-es and postgres-es behind axum
    CqrsEs,
    /// Emmett and its PostgreSQL event store on node
    Emmett,
    /// UmaDB, an event store: appends alone, nothing in front of it
    #[value(name = "umadb")]
    UmaDb,
}

/// A contestant that runs.
pub enum Running {
    /// It takes the same requests as our services.
    Service(Box<OwnService>),
    Store(UmaDb),
}

/// A service, and the Postgres that is its alone, if it has one. The service is dropped first.
pub struct OwnService {
    pub service: Service,
    _postgres: Option<Postgres>,
}

impl OwnService {
    pub fn new(service: Service, postgres: Option<Postgres>) -> Self {
        Self { service, _postgres: postgres }
    }
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Django => "django",
            Self::CqrsEs => "cqrs-es",
            Self::Emmett => "emmett",
            Self::UmaDb => "umadb, store only",
        }
    }

    /// Fetches and builds what the peer is made of, unless it is there.
    async fn install(self) -> Result<()> {
        match self {
            Self::Django => django::install().await,
            Self::CqrsEs => cqrs_es::install().await,
            Self::Emmett => emmett::install().await,
            Self::UmaDb => umadb::install().await,
        }
    }

    /// Starts the peer, which is installed, and waits until it is ready.
    pub async fn start(self, site: &Site) -> Result<Running> {
        if self == Self::UmaDb {
            return Ok(Running::Store(UmaDb::start(site).await?));
        }
        let postgres = site.postgres_of(&format!("postgres-of-{}", self.name())).await?;
        let service = match self {
            Self::Django => django::start(site, &postgres.url(), django::NOT_CACHED).await?,
            Self::CqrsEs => cqrs_es::start(site, &postgres.url()).await?,
            Self::Emmett | Self::UmaDb => emmett::start(site, &postgres.url()).await?,
        };
        Ok(Running::Service(Box::new(OwnService::new(service, Some(postgres)))))
    }
}

/// Installs the peers, and returns those that are there, with a line of the report for each that cannot be had.
pub async fn install(peers: &[Peer]) -> (Vec<Peer>, Vec<Fact>) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for &peer in peers {
        match peer.install().await {
            Ok(()) => there.push(peer),
            Err(error) => {
                eprintln!("{} is missing: {error:#}", peer.name());
                missing
                    .push(Fact::new(format!("missing: {}", peer.name()), in_a_line(&format!("{error:#}"))));
            }
        }
    }
    (there, missing)
}

/// The beginning of a text, fit for a cell of a table.
fn in_a_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "/").chars().take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_cell() {
        assert_eq!(in_a_line("npm failed:\n  a | b\n"), "npm failed: a / b");
        assert_eq!(in_a_line(&"x".repeat(1000)).len(), 200);
    }
}
