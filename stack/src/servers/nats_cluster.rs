//! Several nats-servers on loopback that keep copies of each other's streams.

use anyhow::Result;
use futures::future::try_join_all;

use super::ServerConfig;
use super::nats::{self, Nats, Role};
use crate::ports;

/// What runs, in the order of the configurations that it was started with. Dropping it stops all nodes.
pub struct NatsCluster {
    pub nodes: Vec<Nats>,
}

impl NatsCluster {
    /// Starts a node for each of `configs`, each over whatever its folder holds, and waits until they have elected a
    /// leader. One configuration alone makes a server alone, as [`Nats::start`] does.
    pub async fn start(configs: Vec<ServerConfig>) -> Result<Self> {
        if configs.len() == 1 {
            return Ok(Self { nodes: try_join_all(configs.into_iter().map(Nats::start)).await? });
        }
        let routes = configs.iter().map(|_| ports::next_free(0)).collect::<Result<Vec<u16>>>()?;
        // All at once: none is ready before a majority is there.
        let nodes = configs.into_iter().enumerate().map(|(index, config)| {
            let name = format!("headwater-{}", index + 1);
            Nats::launch(
                config,
                nats::CONFIGURATION,
                Role::Member { name, port: routes[index], routes: routes.clone() },
            )
        });
        Ok(Self { nodes: try_join_all(nodes).await? })
    }

    /// The URLs of all nodes, separated by commas.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// The monitors' URLs, separated by commas.
    pub fn monitor_url(&self) -> String {
        self.nodes.iter().map(Nats::monitor_url).collect::<Vec<_>>().join(",")
    }
}
