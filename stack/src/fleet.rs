//! The services that run and the edge in front of them, brought from what there is to what is wanted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use tokio::sync::watch;

use crate::data_folder::DataFolder;
use crate::endpoints::{Endpoints, Instance};
use crate::issuer::Issuer;
use crate::ports;
use crate::program::{Program, Running};
use crate::scale::{Scale, Service};
use crate::servers::{EdgeConfig, EdgeUpstreams, Envoy, ServerConfig, Upstream, Upstreams};
use crate::services::{self, ServiceConfig, TASK_WORKER};
use crate::supervisor::{Pids, Supervisor, Tier};

/// In this time the edge has read that a service is about to leave, and sends it nothing more.
const EDGE_NOTICES_WITHIN: Duration = Duration::from_millis(500);

/// A service that leaves may take so long to finish what it has.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);

const EDGE: &str = "edge";

/// What every service of this stack is told, or some of them.
pub struct Surroundings {
    pub binaries: &'static Path,
    pub namespace: String,
    /// For whoever operates it.
    pub nats_url: String,
    /// Each service is a user of its own.
    pub nats_urls: BTreeMap<Service, String>,
    pub nats_monitor_url: String,
    /// Servers that keep a copy of each stream.
    pub log_replicas: usize,
    /// For whoever operates it.
    pub database_url: String,
    /// Likewise.
    pub database_urls: BTreeMap<Service, String>,
    pub standbys: Vec<Standby>,
    /// The first is where everything central is.
    pub regions: Vec<String>,
    /// Where emails go.
    pub mail: String,
    pub ports: WantedPorts,
    /// If the services ask for tokens.
    pub tokens: Option<Tokens>,
}

/// Who makes the tokens, and those that a part of the stack has itself.
pub struct Tokens {
    pub issuer: Issuer,
    task_worker: PathBuf,
}

impl Tokens {
    pub fn open(data: &Path) -> Result<Self> {
        let issuer = Issuer::open(data)?;
        let task_worker = issuer.keep_reading_token(TASK_WORKER)?;
        Ok(Self { issuer, task_worker })
    }
}

pub struct Standby {
    pub region: String,
    pub url: String,
}

/// Of the first of each service; the others take any.
pub struct WantedPorts {
    pub edge: u16,
    pub command: u16,
    pub query: u16,
    pub projector: u16,
    pub task_worker: u16,
}

pub struct Fleet<'a> {
    surroundings: Surroundings,
    data: &'a DataFolder,
    supervisor: &'a mut Supervisor,
    /// What the services need, which does not change.
    servers: Vec<Instance>,
    members: Vec<Member>,
    edge: Option<Edge>,
}

/// A service that runs.
#[derive(Clone)]
struct Member {
    service: Service,
    number: usize,
    region: String,
    port: u16,
}

impl Member {
    fn name(&self) -> String {
        format!("{}-{}", self.service.name(), self.number)
    }

    fn url(&self) -> String {
        loopback(self.port)
    }

    fn upstream(&self) -> Upstream {
        let address = ([127, 0, 0, 1], self.port).into();
        Upstream { name: self.name(), region: self.region.clone(), address }
    }
}

struct Edge {
    url: String,
    admin_url: String,
    upstreams: EdgeUpstreams,
}

impl<'a> Fleet<'a> {
    /// No service yet, but all of these servers, which the supervisor has already.
    pub fn new(
        surroundings: Surroundings,
        data: &'a DataFolder,
        supervisor: &'a mut Supervisor,
        servers: Vec<Instance>,
    ) -> Self {
        Self { surroundings, data, supervisor, servers, members: vec![], edge: None }
    }

    /// Starts what is missing, tells the edge, and stops what is too much. If something cannot be started, nothing is
    /// stopped either.
    pub async fn scale_to(&mut self, wanted: &Scale, mut say: impl AsyncFnMut(String)) -> Result<()> {
        let missing = self.missing(wanted)?;
        if !missing.is_empty() {
            say(format!("starting {}", names(&missing))).await;
        }
        let started = self.start(missing).await;
        let leaving = if started.is_ok() { self.too_many(wanted) } else { vec![] };
        self.members.retain(|member| leaving.iter().all(|other| other.port != member.port));
        // Those that are about to leave are sent nothing new.
        self.tell_edge(wanted.needs_edge()).await?;
        if leaving.is_empty() {
            return started;
        }
        say(format!("stopping {}", names(&leaving))).await;
        if self.edge.is_some() {
            tokio::time::sleep(EDGE_NOTICES_WITHIN).await;
        }
        for member in &leaving {
            if let Some(running) = self.supervisor.release(&member.name()).await {
                running.stop(LEAVE_WITHIN).await;
            }
        }
        Ok(())
    }

    fn missing(&self, wanted: &Scale) -> Result<Vec<Member>> {
        let mut missing: Vec<Member> = Vec::new();
        for (service, region, count) in wanted.parts() {
            for _ in self.of(service, region).count()..count {
                let known = self.members.iter().chain(&missing);
                let used: Vec<usize> =
                    known.filter(|it| it.service == service).map(|member| member.number).collect();
                let number = (1..).find(|number| !used.contains(number)).unwrap_or(usize::MAX);
                let port = self.port(service, number)?;
                missing.push(Member { service, number, region: region.to_owned(), port });
            }
        }
        Ok(missing)
    }

    /// The last to have come go first.
    fn too_many(&self, wanted: &Scale) -> Vec<Member> {
        let excess = |(service, region, count)| {
            let mut there: Vec<&Member> = self.of(service, region).collect();
            there.sort_by_key(|member| member.number);
            there.into_iter().skip(count).cloned().collect::<Vec<_>>()
        };
        wanted.parts().into_iter().flat_map(excess).collect()
    }

    fn of<'s>(&'s self, service: Service, region: &'s str) -> impl Iterator<Item = &'s Member> {
        self.members.iter().filter(move |member| member.service == service && member.region == region)
    }

    /// The first of each service has the port that was asked for.
    fn port(&self, service: Service, number: usize) -> Result<u16> {
        if number > 1 {
            return ports::next_free(0);
        }
        let WantedPorts { command, query, projector, task_worker, .. } = self.surroundings.ports;
        let wanted = match service {
            Service::Command => command,
            Service::Query => query,
            Service::Projector => projector,
            Service::TaskWorker => task_worker,
        };
        ports::choose(service.name(), wanted)
    }

    /// All at once: a projector, for one, is ready only where a command-service has made the log.
    async fn start(&mut self, members: Vec<Member>) -> Result<()> {
        let programs = members.iter().map(|member| self.program(member)).collect::<Result<Vec<_>>>()?;
        let started = join_all(programs.into_iter().map(Running::start)).await;
        let mut failed = None;
        for (member, running) in members.into_iter().zip(started) {
            match running {
                Ok(running) => {
                    self.supervisor.supervise(Tier::Service, running);
                    self.members.push(member);
                }
                Err(error) => failed = Some(error),
            }
        }
        self.members.sort_by_key(|member| (member.service, member.number));
        failed.map_or(Ok(()), Err)
    }

    fn program(&self, member: &Member) -> Result<Program> {
        let Surroundings { log_replicas, regions, mail, tokens, .. } = &self.surroundings;
        let log_replicas = log_replicas.to_string();
        let mut state_folder = None;
        let mut settings = Vec::new();
        match member.service {
            Service::Command => {
                state_folder = Some(self.data.path().join("state").join(member.name()));
                settings.push(("HEADWATER_REGION", member.region.clone()));
                settings.push(("HEADWATER_LOG_REPLICAS", log_replicas));
            }
            Service::Query => {
                settings.push(("HEADWATER_REGION", member.region.clone()));
                settings.extend(self.standby(member).map(|url| ("HEADWATER_STANDBY_URL", url)));
            }
            Service::Projector => {}
            Service::TaskWorker => {
                settings.push(("HEADWATER_REGIONS", regions.join(",")));
                settings.push(("HEADWATER_TASK_REPLICAS", log_replicas));
                settings.push(("HEADWATER_MAIL", mail.clone()));
                settings.push(("HEADWATER_QUERY_URL", self.query_url()));
                let token = tokens.as_ref().map(|tokens| tokens.task_worker.display().to_string());
                settings.extend(token.map(|file| ("HEADWATER_QUERY_TOKEN_FILE", file)));
            }
        }
        settings.extend(tokens.iter().flat_map(|tokens| tokens.issuer.settings()));
        let config = ServiceConfig {
            port: member.port,
            namespace: self.surroundings.namespace.clone(),
            nats_url: self.surroundings.nats_urls[&member.service].clone(),
            nats_monitor_url: self.surroundings.nats_monitor_url.clone(),
            database_url: self.surroundings.database_urls.get(&member.service).cloned(),
            state_folder,
            settings: settings.into_iter().map(|(name, value)| (name, value.into())).collect(),
            log: self.data.fresh_log(&member.name())?,
        };
        let program = services::program(self.surroundings.binaries, member.service.name(), config);
        Ok(Program { name: member.name(), ..program })
    }

    /// The standby of its region that it asks, if there is one; its neighbours ask the others.
    fn standby(&self, member: &Member) -> Option<String> {
        let there = self.surroundings.standbys.iter().filter(|standby| standby.region == member.region);
        let there: Vec<&Standby> = there.collect();
        let chosen = there.get(member.number.checked_rem(there.len())?)?;
        Some(chosen.url.clone())
    }

    /// Starts the edge when it is first needed. From then on it stays, because clients know it.
    async fn tell_edge(&mut self, is_needed: bool) -> Result<()> {
        let of = |service| {
            let members = self.members.iter().filter(move |member| member.service == service);
            members.map(Member::upstream).collect()
        };
        let upstreams = Upstreams { commands: of(Service::Command), queries: of(Service::Query) };
        match &self.edge {
            Some(edge) => edge.upstreams.set(&upstreams),
            None if is_needed => self.start_edge(&upstreams).await,
            None => Ok(()),
        }
    }

    async fn start_edge(&mut self, upstreams: &Upstreams) -> Result<()> {
        let port = ports::choose(EDGE, self.surroundings.ports.edge)?;
        let server =
            ServerConfig { folder: self.data.path().join(EDGE), log: self.data.fresh_log(EDGE)?, port };
        let regions: Vec<&str> = self.surroundings.regions.iter().map(String::as_str).collect();
        // Only clients of this machine can reach it, and they may say where they are.
        let config = EdgeConfig { trusts_region_header: true, ..EdgeConfig::new(server, &regions) };
        let envoy = Envoy::start(config, upstreams).await?;
        let (url, admin_url) = (envoy.url(), envoy.admin_url().to_owned());
        let (running, upstreams) = envoy.into_parts();
        self.supervisor.supervise(Tier::Service, running.named(EDGE));
        self.edge = Some(Edge { url, admin_url, upstreams });
        Ok(())
    }

    /// Who makes the tokens, if services ask for them.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.surroundings.tokens.as_ref().map(|tokens| &tokens.issuer)
    }

    pub fn pids(&self) -> watch::Receiver<Pids> {
        self.supervisor.pids()
    }

    /// Where everything is at this moment.
    pub fn endpoints(&self) -> Endpoints {
        let pids = self.supervisor.pids();
        let pids = pids.borrow();
        let services = self.members.iter().map(|member| Instance {
            name: member.name(),
            program: member.service.name().to_owned(),
            region: member.region.clone(),
            url: member.url(),
            health_url: Some(format!("{}/health/ready", member.url())),
            pid: None,
        });
        let edge = self.edge.iter().map(|edge| Instance {
            name: EDGE.to_owned(),
            program: "envoy".to_owned(),
            region: self.surroundings.regions[0].clone(),
            url: edge.url.clone(),
            health_url: Some(format!("{}/ready", edge.admin_url)),
            pid: None,
        });
        let mut instances: Vec<Instance> = edge.chain(services).chain(self.servers.iter().cloned()).collect();
        for instance in &mut instances {
            instance.pid = pids.get(&instance.name).copied();
        }
        Endpoints {
            command: self.command_url(),
            query: self.query_url(),
            projector: self.first(Service::Projector),
            task_worker: self.first(Service::TaskWorker),
            nats: self.surroundings.nats_url.clone(),
            postgres: self.surroundings.database_url.clone(),
            instances,
        }
    }

    fn command_url(&self) -> String {
        let edge = self.edge.as_ref();
        edge.map_or_else(|| self.first(Service::Command), |edge| format!("{}/commands", edge.url))
    }

    fn query_url(&self) -> String {
        let edge = self.edge.as_ref();
        edge.map_or_else(|| self.first(Service::Query), |edge| format!("{}/queries", edge.url))
    }

    fn first(&self, service: Service) -> String {
        self.members.iter().find(|member| member.service == service).map(Member::url).unwrap_or_default()
    }
}

fn names(members: &[Member]) -> String {
    members.iter().map(Member::name).collect::<Vec<_>>().join(", ")
}

pub fn loopback(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
