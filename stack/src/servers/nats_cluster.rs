//! Several nats-servers on loopback that keep copies of each other's streams.

use std::path::Path;

use anyhow::{Result, bail};
use futures::future::try_join_all;

use super::ServerConfig;
use super::certificates::{Authority, tls};
use super::nats::{Nats, Setup};
use super::nats_files::Namespaces;
use super::nats_users::{ADMIN, Passwords};
use crate::ports;
use crate::readiness::Readiness;

const MEMBER: &str = "include ./cluster.conf\n";

/// What runs, in the order of the configurations that it was started with. Dropping it stops all nodes.
pub struct NatsCluster {
    pub nodes: Vec<Nats>,
}

impl NatsCluster {
    /// Starts a node for each of `configs`, each over whatever its folder holds, and waits until they have elected a
    /// leader. One configuration alone makes a server alone, as [`Nats::start`] does. Users may use any namespace.
    pub async fn start(configs: Vec<ServerConfig>) -> Result<Self> {
        Self::launch(configs, Namespaces::All, false).await
    }

    /// The same for users that may use one namespace.
    pub async fn start_for(configs: Vec<ServerConfig>, namespace: &str) -> Result<Self> {
        Self::launch(configs, Namespaces::One(namespace.to_owned()), false).await
    }

    /// The same of nodes that tell clients nothing of each other, so that these reach them by the addresses that they
    /// were given and by no others.
    pub async fn start_silent(configs: Vec<ServerConfig>, namespace: &str) -> Result<Self> {
        Self::launch(configs, Namespaces::One(namespace.to_owned()), true).await
    }

    async fn launch(
        configs: Vec<ServerConfig>,
        namespaces: Namespaces,
        is_silent_of_others: bool,
    ) -> Result<Self> {
        let Some(first) = configs.first() else { bail!("a cluster has at least one node") };
        let passwords = Passwords::of(&first.folder)?;
        if configs.len() == 1 {
            let alone = configs.into_iter().map(|config| match &namespaces {
                Namespaces::One(name) => futures::future::Either::Left(Nats::start_for(config, name)),
                Namespaces::All => futures::future::Either::Right(Nats::start(config)),
            });
            return Ok(Self { nodes: try_join_all(alone).await? });
        }
        let authority = Authority::new()?;
        for config in &configs {
            was_in_a_cluster(&config.folder)?;
            passwords.keep(&config.folder)?;
            authority.certify(&config.folder)?;
        }
        let ports = configs.iter().map(|_| ports::next_free(0)).collect::<Result<Vec<u16>>>()?;
        let routes = ports.iter().map(|port| format!("'{}'", passwords.url("tls", "routes", *port)));
        let routes = format!("[{}]", routes.collect::<Vec<_>>().join(", "));
        // All at once: none is ready before a majority is there.
        let nodes = configs.into_iter().zip(ports).enumerate().map(|(index, (config, port))| {
            let mut env = tls(&config.folder)?;
            env.push(("NATS_CLUSTER_LISTEN", format!("127.0.0.1:{port}").into()));
            env.push(("NATS_CLUSTER_ROUTES", (&routes).into()));
            let setup = Setup {
                name: format!("headwater-{}", index + 1),
                text: MEMBER.to_owned(),
                namespaces: namespaces.clone(),
                readiness: Readiness::JetStream {
                    port: config.port,
                    password: passwords.password(ADMIN).unwrap_or_default().to_owned(),
                },
                passwords: passwords.clone(),
                env,
                is_silent_of_others,
            };
            Ok(Nats::launch(config, setup))
        });
        Ok(Self { nodes: try_join_all(nodes.collect::<Result<Vec<_>>>()?).await? })
    }

    /// The URLs of all nodes, separated by commas, for the user that may do everything with streams.
    pub fn url(&self) -> String {
        self.url_as(ADMIN)
    }

    /// The same for another user: a service's has the service's name.
    pub fn url_as(&self, user: &str) -> String {
        self.nodes.iter().map(|node| node.url_as(user)).collect::<Vec<_>>().join(",")
    }

    /// The monitors' URLs, separated by commas.
    pub fn monitor_url(&self) -> String {
        self.nodes.iter().map(Nats::monitor_url).collect::<Vec<_>>().join(",")
    }
}

/// A server that was alone knows nothing of a cluster's streams, and the cluster nothing of its: seen of nats-server
/// 2.15, it deletes them 30 seconds after it has joined.
fn was_in_a_cluster(folder: &Path) -> Result<()> {
    let store = folder.join("jetstream");
    let has_streams = std::fs::read_dir(&store)
        .is_ok_and(|accounts| accounts.flatten().any(|account| account.path().join("streams").exists()));
    if has_streams && !store.join("SYSTEM/_js_/_meta_").exists() {
        bail!(
            "{} is the store of a NATS server that was alone; in a cluster it would delete its streams. \
             docs/operations.md says how to go from one node to three",
            store.display()
        );
    }
    Ok(())
}
