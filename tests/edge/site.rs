//! The whole system as processes, behind an edge.

use std::{net::Ipv4Addr, time::Duration};

use futures::future::join_all;
use serde_json::Value;
use stack::servers::{EdgeConfig, Envoy, ServerConfig, Upstream, Upstreams, temporary_folder};
use tempfile::TempDir;

use crate::{
    harness::{Place, Servers, until},
    instance::{Instance, Settings},
    wire::Wire,
};

pub const EU: &str = "eu";
pub const US: &str = "us";

/// Four health checks of the edge.
const DRAIN_SECONDS: &str = "2";

pub struct Site {
    pub place: Place,
    pub commands: Vec<Member>,
    pub queries: Vec<Member>,
    pub edge: Envoy,
    /// None of them is behind the edge.
    pub projectors: Vec<Instance>,
    pub folder: TempDir,
}

/// A service behind the edge.
pub struct Member {
    pub name: String,
    region: &'static str,
    pub instance: Instance,
}

impl Member {
    fn upstream(&self) -> Upstream {
        let address = (Ipv4Addr::LOCALHOST, self.instance.port).into();
        Upstream { name: self.name.clone(), region: self.region.to_owned(), address }
    }
}

impl Site {
    /// So many command-services, a query-service in each of the regions named, and an edge in the region `eu`.
    pub async fn start(commands: usize, regions: &[&'static str]) -> Self {
        Self::start_with(commands, regions, |_| ()).await
    }

    /// The same with another edge.
    pub async fn start_with(
        commands: usize,
        regions: &[&'static str],
        configure: impl FnOnce(&mut EdgeConfig),
    ) -> Self {
        let place = Place::new(Servers::shared().await).await;
        let folder = temporary_folder().unwrap();
        let commands = join_all((1..=commands).map(|number| command_service(&place, &folder, number))).await;
        // It is ready only where there is a log, which the command-services make.
        let projectors = vec![projector(&place, &folder, 1).await];
        let queries = join_all((1..).zip(regions).map(|(number, region)| {
            let name = format!("{region}/query-{number}");
            query_service(&place, &folder, name, region)
        }))
        .await;
        let mut config = edge_config(&folder, "edge");
        configure(&mut config);
        let edge = Envoy::start(config, &upstreams(&commands, &queries)).await.unwrap();
        Self { place, commands, queries, edge, projectors, folder }
    }

    /// Starts another edge in front of the same services.
    pub async fn another_edge(&self, configure: impl FnOnce(&mut EdgeConfig)) -> Envoy {
        let mut config = edge_config(&self.folder, "another-edge");
        configure(&mut config);
        Envoy::start(config, &upstreams(&self.commands, &self.queries)).await.unwrap()
    }

    /// Starts another edge that reaches the first command-service over a wire.
    pub async fn edge_over(&self, wire: &Wire) -> Envoy {
        let mut over = upstreams(&self.commands[..1], &self.queries);
        over.commands[0].address = wire.address.parse().unwrap();
        Envoy::start(edge_config(&self.folder, "edge-over-wire"), &over).await.unwrap()
    }

    /// Starts so many more replicas, and tells the edge of them.
    pub async fn add_replicas(&mut self, region: &'static str, count: usize) {
        let first = self.queries.len() + 1;
        let added = (first..first + count).map(|number| {
            query_service(&self.place, &self.folder, format!("{region}/query-{number}"), region)
        });
        let added = join_all(added).await;
        self.queries.extend(added);
        self.tell_edge();
    }

    /// Starts another projector beside those there are.
    pub async fn add_projector(&mut self) {
        let number = self.projectors.len() + 1;
        self.projectors.push(projector(&self.place, &self.folder, number).await);
    }

    pub fn tell_edge(&self) {
        self.edge.set(&upstreams(&self.commands, &self.queries)).unwrap();
    }

    /// Waits until the edge sends requests to exactly these of a cluster's upstreams.
    pub async fn until_edge_uses(&self, cluster: &str, members: &[&Member]) {
        let mut wanted: Vec<u64> = members.iter().map(|member| member.instance.port.into()).collect();
        wanted.sort_unstable();
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        until(&format!("the edge uses {names:?} of {cluster}"), async || {
            used(&self.edge, cluster).await == wanted
        })
        .await;
    }

    pub async fn until_edge_uses_all(&self) {
        self.until_edge_uses("commands-any", &self.commands.iter().collect::<Vec<_>>()).await;
        self.until_edge_uses("queries-eu", &self.queries.iter().collect::<Vec<_>>()).await;
    }
}

/// The ports of the upstreams that are healthy in the eyes of the edge.
async fn used(edge: &Envoy, cluster: &str) -> Vec<u64> {
    let url = format!("{}/clusters?format=json", edge.admin_url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let clusters = answer["cluster_statuses"].as_array().unwrap();
    let cluster = clusters.iter().find(|it| it["name"] == cluster).unwrap();
    let hosts = cluster["host_statuses"].as_array().cloned().unwrap_or_default();
    let healthy = hosts.iter().filter(|host| {
        let status = host["health_status"].as_object().unwrap();
        status.keys().all(|key| key == "eds_health_status")
    });
    let mut ports: Vec<u64> =
        healthy.map(|host| host["address"]["socket_address"]["port_value"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    ports
}

fn edge_config(folder: &TempDir, name: &str) -> EdgeConfig {
    EdgeConfig::new(ServerConfig::within(folder.path().join(name)).unwrap(), &[EU, US])
}

fn upstreams(commands: &[Member], queries: &[Member]) -> Upstreams {
    Upstreams {
        commands: commands.iter().map(Member::upstream).collect(),
        queries: queries.iter().map(Member::upstream).collect(),
    }
}

fn settings() -> Settings {
    vec![("HEADWATER_HTTP_DRAIN_SECONDS", DRAIN_SECONDS.into())]
}

async fn command_service(place: &Place, folder: &TempDir, number: usize) -> Member {
    let name = format!("command-{number}");
    let instance = Instance::start_with(place, &folder.path().join(&name), settings()).await;
    Member { name, region: EU, instance }
}

async fn projector(place: &Place, folder: &TempDir, number: usize) -> Instance {
    Instance::projector(place, folder.path().join(format!("projector-{number}.log")), "").await
}

async fn query_service(place: &Place, folder: &TempDir, name: String, region: &'static str) -> Member {
    let log = folder.path().join(format!("{}.log", name.replace('/', "-")));
    let instance = Instance::query_service_with(place, log, settings()).await;
    Member { name, region, instance }
}

/// How long a load lasts altogether.
pub fn duration() -> Duration {
    let seconds = std::env::var("HEADWATER_EDGE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(20, |seconds| seconds.parse().unwrap()))
}
