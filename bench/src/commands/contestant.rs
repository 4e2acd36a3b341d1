//! Who takes commands: our service, the naive one, and what other people would build.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use crate::contestants::{Service, Site};
use crate::load::{Load, Measured, Pace};
use crate::peers::{OwnService, Peer, Running};
use crate::requests::{self, Command};

use super::{HEADWATER, NAIVE};

/// Accounts that place orders.
const ACCOUNTS: usize = 1000;

pub struct Contestant {
    pub name: &'static str,
    running: Running,
    accounts: Arc<[Uuid]>,
}

impl Contestant {
    /// Starts ours, the naive one, and these peers.
    pub async fn start_all(site: &Site, peers: &[Peer]) -> Result<Vec<Self>> {
        let ours = site.command_service().await?;
        let accounts = requests::some_accounts(ours.address, ACCOUNTS).await?;
        // The naive service lets unknown accounts place orders.
        let naive = Self::service(NAIVE, site.naive_service().await?, accounts.clone());
        let mut all = vec![Self::service(HEADWATER, ours, accounts), naive];
        for &peer in peers {
            all.push(Self::peer(site, peer).await?);
        }
        Ok(all)
    }

    fn service(name: &'static str, service: Service, accounts: Arc<[Uuid]>) -> Self {
        Self { name, running: Running::Service(Box::new(OwnService::new(service, None))), accounts }
    }

    async fn peer(site: &Site, peer: Peer) -> Result<Self> {
        eprintln!("starting {}", peer.name());
        let running = peer.start(site).await?;
        let accounts = match &running {
            Running::Service(own) => {
                let service = &own.service;
                service.until(requests::some_accounts(service.address, ACCOUNTS)).await?
            }
            Running::Store(_) => Arc::default(),
        };
        Ok(Self { name: peer.name(), running, accounts })
    }

    /// Sends `command` in a closed loop, each time to a new aggregate.
    pub async fn take(
        &self,
        command: Command,
        connections: usize,
        warm_up: Duration,
        measure: Duration,
    ) -> Result<Measured> {
        match &self.running {
            Running::Service(own) => {
                let service = &own.service;
                let load =
                    Load { address: service.address, connections, warm_up, measure, pace: Pace::ClosedLoop };
                let requests = |connection| requests::each_new(command, connection, self.accounts.clone());
                service.until(load.run(requests)).await
            }
            Running::Store(store) => store.run(command, connections, warm_up, measure).await,
        }
    }
}
