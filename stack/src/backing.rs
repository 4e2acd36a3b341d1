//! The servers that the services need, as a stack has them: NATS on one node or several, a Postgres and its standbys.

use std::path::Path;

use anyhow::{Result, bail};
use futures::future::try_join_all;
use futures::try_join;

use crate::data_folder::DataFolder;
use crate::endpoints::{Instance, without_password};
use crate::ports;
use crate::program::Running;
use crate::scale::Service;
use crate::servers::{NatsCluster, Postgres, ServerConfig};
use crate::services;
use crate::supervisor::{Supervisor, Tier};
use crate::up::Options;

const NATS: &str = "nats-server";
pub const POSTGRES: &str = "postgres";

/// A query-service has some tens of connections, and there may be many.
const SETTINGS: [(&str, &str); 1] = [("max_connections", "500")];

/// Servers that run, none of them supervised yet.
pub struct Backing {
    nats: NatsCluster,
    postgres: Postgres,
    /// Each in its region.
    standbys: Vec<(String, Postgres)>,
}

impl Backing {
    /// Starts all of them, the database with the tables of this version.
    pub async fn start(options: &Options, data: &DataFolder, binaries: &Path) -> Result<Self> {
        let nodes = nodes(options, data)?;
        let primary = server(data, POSTGRES, ports::choose(POSTGRES, options.postgres_port)?)?;
        let (nats, postgres) = try_join!(
            NatsCluster::start_for(nodes, &options.namespace),
            Postgres::start(primary, &SETTINGS)
        )?;
        services::migrate(binaries, &postgres.url(), &data.fresh_log("migrate")?).await?;
        let standbys = options.standby_regions().into_iter().zip(1..).map(async |(region, number)| {
            let config = server(data, &format!("{POSTGRES}-standby-{number}"), ports::next_free(0)?)?;
            anyhow::Ok((region, postgres.standby(config).await?))
        });
        let standbys = try_join_all(standbys).await?;
        Ok(Self { nats, postgres, standbys })
    }

    /// For whoever operates it.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// For a service.
    pub fn nats_url_as(&self, service: Service) -> String {
        self.nats.url_as(service.name())
    }

    pub fn nats_monitor_url(&self) -> String {
        self.nats.monitor_url()
    }

    /// Of the primary, for whoever operates it.
    pub fn database_url(&self) -> String {
        self.postgres.url()
    }

    /// Of the primary, for a service.
    pub fn database_url_as(&self, service: Service) -> String {
        self.postgres.url_as(service.name(), &self.postgres.url())
    }

    /// The region of each, and its URL for query-services.
    pub fn standbys(&self) -> Vec<(String, String)> {
        let url = |standby: &Postgres| standby.url_as(Service::Query.name(), &standby.url());
        self.standbys.iter().map(|(region, standby)| (region.clone(), url(standby))).collect()
    }

    /// Gives them to the supervisor, and tells what there is; all that is central is in this region.
    pub fn supervise(self, supervisor: &mut Supervisor, central: &str) -> Vec<Instance> {
        let several = self.nats.nodes.len() > 1;
        let nats = self.nats.nodes.into_iter().zip(1..).map(|(node, number)| {
            let name = if several { format!("{NATS}-{number}") } else { NATS.to_owned() };
            let health_url = Some(format!("{}/healthz", node.monitor_url()));
            let instance = instance(name, NATS, central, &node.url(), health_url);
            (instance, node.into_running())
        });
        let primary = (POSTGRES.to_owned(), central.to_owned(), self.postgres);
        let standbys = self.standbys.into_iter().zip(1..);
        let standbys = standbys
            .map(|((region, standby), number)| (format!("{POSTGRES}-standby-{number}"), region, standby));
        let postgres = [primary].into_iter().chain(standbys).map(|(name, region, server)| {
            (instance(name, POSTGRES, &region, &server.url(), None), server.into_running())
        });
        let supervise = |(instance, running): (Instance, Running)| {
            supervisor.supervise(Tier::Server, running.named(&instance.name));
            instance
        };
        nats.chain(postgres).map(supervise).collect()
    }
}

fn instance(name: String, program: &str, region: &str, url: &str, health_url: Option<String>) -> Instance {
    let (program, region) = (program.to_owned(), region.to_owned());
    Instance { name, program, region, url: without_password(url), health_url, pid: None }
}

fn server(data: &DataFolder, name: &str, port: u16) -> Result<ServerConfig> {
    Ok(ServerConfig { folder: data.path().join(name), log: data.fresh_log(name)?, port })
}

/// Where each node of NATS keeps its streams. What was kept on one node is not read by several, nor the other way.
fn nodes(options: &Options, data: &DataFolder) -> Result<Vec<ServerConfig>> {
    let one = vec![NATS.to_owned()];
    let several = (1..=5).map(|number| format!("{NATS}-{number}")).collect::<Vec<_>>();
    let (names, other) = match options.nats_nodes {
        1 => (one, &several[0]),
        nodes => (several[..nodes].to_vec(), &one[0]),
    };
    let others = data.path().join(other);
    if others.exists() {
        let before = if options.nats_nodes == 1 { "several nodes of NATS" } else { "one node of NATS" };
        bail!(
            "the log of this data folder is on {before} ({}): start it with --nats-nodes as before, or another with \
             --data-dir",
            others.display()
        );
    }
    let first = ports::choose(NATS, options.nats_port)?;
    let config = |(index, name): (usize, &String)| {
        server(data, name, if index == 0 { first } else { ports::next_free(0)? })
    };
    names.iter().enumerate().map(config).collect()
}
