//! The whole system: two of each service behind an edge, three nodes of NATS, a database with a standby, a mail
//! server. Whoever talks to another does so over a wire that can be frozen, slowed down or cut.

use std::{fs, net::SocketAddr, path::Path};

use event_log::EventLog;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use stack::{
    ports,
    servers::{
        EdgeConfig, Envoy, NatsCluster, Postgres, ServerConfig, Upstream, Upstreams, temporary_folder,
    },
    services::{COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, ServiceConfig, TASK_WORKER},
};
use tempfile::TempDir;

use super::{
    clock::{self, Clock},
    members::{Member, Process, Role},
};
use crate::{
    disk::Disk,
    instance::{Instance, Settings},
    issuer::{self, Issuer},
    smtp::SmtpServer,
    standby::Standby,
    wire::Wire,
};

const NAMESPACE: &str = "storm";
const REGION: &str = "local";
/// Of a disk that can be filled.
const DISK_BYTES: u64 = 1 << 30;
/// What clients may do.
const SCOPES: &str = "account:register:any account:change-email:any account:change-username:any \
    account:rename:any account:close:any order:place:any order:cancel:any accounts:read:any customers:read:any \
    orders:read:any";
/// What somebody may do who has nothing in the system.
const SCOPES_OF_A_STRANGER: &str = "account:rename accounts:read";
const TOKEN_SECONDS: u64 = 10 * 24 * 60 * 60;

/// All connections from one process to those of another role.
pub struct Link {
    pub from: Role,
    /// Which of its role; 1, 2, 3 …
    pub number: usize,
    pub to: Role,
    pub wires: Vec<Wire>,
}

pub struct World {
    pub members: Vec<Member>,
    pub links: Vec<Link>,
    /// Each with the member whose disk it is.
    pub disks: Vec<(Role, usize, Disk)>,
    pub clocks: Vec<(Role, usize, Clock)>,
    pub log: EventLog,
    /// As the user that `replay` is.
    pub database_url: String,
    pub standby_url: String,
    /// As its owner.
    pub standby_admin_url: String,
    /// Of the edge.
    pub url: String,
    pub token: String,
    pub token_of_a_stranger: String,
    _issuer: Issuer,
    folder: TempDir,
    _standby_folder: TempDir,
}

/// What is there before the services are.
struct Ground<'a> {
    folder: &'a Path,
    clocks: &'a Path,
    nats: &'a NatsCluster,
    database_url: &'a str,
    postgres: &'a Postgres,
    standby_url: &'a str,
    auth: Settings,
}

/// What is made while services are started.
#[derive(Default)]
struct Making {
    links: Vec<Link>,
    clocks: Vec<(Role, usize, Clock)>,
    disks: Vec<(Role, usize, Disk)>,
}

impl World {
    pub async fn start() -> Self {
        let folder = temporary_folder().unwrap();
        let mut making = Making::default();
        let nats = nats(folder.path(), &mut making).await;
        let config = |name: &str| ServerConfig::within(folder.path().join(name)).unwrap();
        let postgres = Postgres::start(config("postgres"), &[("max_connections", "200")]).await.unwrap();
        let standby = Standby::of(&postgres).await;
        let mut admin = PgConnection::connect(&postgres.url()).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("create database {NAMESPACE}"))).execute(&mut admin).await.unwrap();
        let database_url = postgres.database_url(NAMESPACE);
        projector::migrate(&database_url).await.unwrap();
        let smtp = SmtpServer::start().await;
        let issuer = Issuer::new();
        let token = |scopes: &str| {
            let subject = uuid::Uuid::now_v7().to_string();
            let mut claims = issuer::claims(&subject, scopes);
            claims["exp"] = json!(issuer::now() + TOKEN_SECONDS);
            issuer.key.token(&claims)
        };

        let standby_url = standby.url(NAMESPACE);
        let clocks = clock::library(folder.path());
        let ground = Ground {
            folder: folder.path(),
            clocks: &clocks,
            nats: &nats,
            database_url: &database_url,
            postgres: &postgres,
            standby_url: &standby_url,
            auth: issuer.settings(),
        };
        let mut services = Vec::new();
        for (role, number) in
            [Role::Command, Role::Projector, Role::Query].map(|role| [(role, 1), (role, 2)]).concat()
        {
            services.push(ground.service(role, number, vec![], &mut making).await);
        }
        let edge = edge(folder.path(), &services, &mut making.links).await;
        let url = edge.url();
        let token_file = folder.path().join("token");
        fs::write(&token_file, token("accounts:read:any")).unwrap();
        for number in [1, 2] {
            let mail = Wire::to(&smtp.url()).await;
            let settings: Settings = vec![
                ("HEADWATER_MAIL", mail.instead(&smtp.url()).into()),
                ("HEADWATER_QUERY_URL", format!("{url}/queries").into()),
                ("HEADWATER_QUERY_TOKEN_FILE", (&token_file).into()),
            ];
            services.push(ground.service(Role::Tasks, number, settings, &mut making).await);
            making.links.push(Link { from: Role::Tasks, number, to: Role::Mail, wires: vec![mail] });
        }

        let log = EventLog::new(service_kit::nats::connect(&nats.url(), "test").await.unwrap(), NAMESPACE);
        let replay = |postgres: &Postgres| postgres.url_as("replay", &postgres.database_url(NAMESPACE));
        let (database_url, standby_url) = (replay(&postgres), replay(&standby.postgres));
        let standby_admin_url = standby.postgres.database_url(NAMESPACE);
        let (token, token_of_a_stranger) = (token(SCOPES), token(SCOPES_OF_A_STRANGER));
        let member = |role, number, process| Member { role, number, process };
        let mut members: Vec<Member> = (1..)
            .zip(nats.nodes)
            .map(|(number, node)| member(Role::Nats, number, Process::Nats(node)))
            .collect();
        members.push(member(Role::Postgres, 1, Process::Postgres(postgres)));
        members.push(member(Role::Standby, 1, Process::Postgres(standby.postgres)));
        members.push(member(Role::Mail, 1, Process::Mail(smtp)));
        members.extend(services);
        members.push(member(Role::Edge, 1, Process::Edge(edge)));
        let Making { links, clocks, disks } = making;
        Self {
            members,
            links,
            disks,
            clocks,
            log,
            database_url,
            standby_url,
            standby_admin_url,
            url,
            token,
            token_of_a_stranger,
            _issuer: issuer,
            folder,
            _standby_folder: standby.folder,
        }
    }

    pub fn all(&self, role: Role) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role)
    }

    pub fn mail(&self) -> &SmtpServer {
        let server = self.members.iter().find_map(|member| match &member.process {
            Process::Mail(server) => Some(server),
            _ => None,
        });
        server.expect("there is a mail server")
    }

    /// Where a command-service keeps its state.
    pub fn state_of(&self, number: usize) -> std::path::PathBuf {
        state_of(self.folder.path(), &self.disks, number)
    }

    /// What the services and nodes of NATS have logged last.
    pub fn said(&self) -> String {
        let said = self.members.iter().filter_map(|member| {
            let all = match &member.process {
                Process::Service(service) => service.said(),
                Process::Nats(_) => fs::read_to_string(nats_log(self.folder.path(), member.number)).ok()?,
                _ => return None,
            };
            let lines: Vec<&str> = all.lines().rev().take(40).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            Some(format!("== {}\n{}\n", member.name(), lines.join("\n")))
        });
        said.collect()
    }
}

fn state_of(folder: &Path, disks: &[(Role, usize, Disk)], number: usize) -> std::path::PathBuf {
    let disk = disks.iter().find(|(role, of, _)| (*role, *of) == (Role::Command, number));
    disk.map_or_else(|| folder.join(format!("state-{number}")), |(_, _, disk)| disk.path().join("state"))
}

fn nats_log(folder: &Path, number: usize) -> std::path::PathBuf {
    folder.join(format!("nats-{number}.log"))
}

/// Three nodes, the last of which has a small disk of its own, where one can be made.
async fn nats(folder: &Path, making: &mut Making) -> NatsCluster {
    if let Some(disk) = Disk::mount(DISK_BYTES) {
        making.disks.push((Role::Nats, 3, disk));
    }
    let configs = (1..=3).map(|number| {
        let disk = making.disks.first().filter(|_| number == 3).map(|(_, _, disk)| disk.path().to_owned());
        let log = nats_log(folder, number);
        let folder = disk.unwrap_or_else(|| folder.join(format!("nats-{number}")));
        ServerConfig { log, ..ServerConfig::within(folder).unwrap() }
    });
    NatsCluster::start_silent(configs.collect(), NAMESPACE).await.unwrap()
}

impl Ground<'_> {
    /// Starts a service, with wires of its own to everybody whom it needs, and a clock of its own.
    async fn service(&self, role: Role, number: usize, settings: Settings, making: &mut Making) -> Member {
        let name = match role {
            Role::Command => COMMAND_SERVICE,
            Role::Projector => PROJECTOR,
            Role::Query => QUERY_SERVICE,
            Role::Tasks => TASK_WORKER,
            _ => panic!("{role:?} is no service"),
        };
        let clock = Clock::new(self.clocks, self.folder.join(format!("{name}-{number}.clock")));
        let mut settings = [settings, clock.settings()].concat();
        let mut nats_urls = Vec::new();
        let mut wires = Vec::new();
        for node in &self.nats.nodes {
            let wire = Wire::to(&node.url_as(name)).await;
            nats_urls.push(wire.instead(&node.url_as(name)));
            wires.push(wire);
        }
        making.links.push(Link { from: role, number, to: Role::Nats, wires });
        let mut database_url = None;
        if matches!(role, Role::Projector | Role::Query) {
            let url = self.postgres.url_as(name, self.database_url);
            let wire = Wire::to(&url).await;
            database_url = Some(wire.instead(&url));
            making.links.push(Link { from: role, number, to: Role::Postgres, wires: vec![wire] });
        }
        let mut state_folder = None;
        match role {
            Role::Command => {
                if number == 2
                    && let Some(disk) = Disk::mount(DISK_BYTES)
                {
                    making.disks.push((role, number, disk));
                }
                state_folder = Some(state_of(self.folder, &making.disks, number));
                settings.push(("HEADWATER_LOG_REPLICAS", "3".into()));
            }
            Role::Tasks => {
                settings.push(("HEADWATER_TASK_REPLICAS", "3".into()));
                // The services are busy all the time, and rests need not be longer than what is left to do.
                settings.push(("HEADWATER_TRICKLE_PER_SECOND", "200".into()));
            }
            Role::Query => {
                let wire = Wire::to(self.standby_url).await;
                settings.push(("HEADWATER_STANDBY_URL", wire.instead(self.standby_url).into()));
                making.links.push(Link { from: role, number, to: Role::Standby, wires: vec![wire] });
            }
            _ => {}
        }
        if matches!(role, Role::Command | Role::Query) {
            settings.extend(self.auth.clone());
            // Four health checks of the edge.
            settings.push(("HEADWATER_HTTP_DRAIN_SECONDS", "2".into()));
        }
        let config = ServiceConfig {
            port: ports::next_free(0).unwrap(),
            namespace: NAMESPACE.to_owned(),
            nats_url: nats_urls.join(","),
            nats_monitor_url: self.nats.monitor_url(),
            database_url,
            state_folder,
            settings,
            log: self.folder.join(format!("{name}-{number}.log")),
        };
        let process = Process::Service(Instance::of(name, config).await);
        making.clocks.push((role, number, clock));
        Member { role, number, process }
    }
}

/// An edge that reaches each service over a wire.
async fn edge(folder: &Path, services: &[Member], links: &mut Vec<Link>) -> Envoy {
    let mut upstreams = Upstreams::default();
    for member in services {
        let Member { role, number, .. } = *member;
        let among = match role {
            Role::Command => &mut upstreams.commands,
            Role::Query => &mut upstreams.queries,
            _ => continue,
        };
        let wire = Wire::to(&member.service().url).await;
        let address: SocketAddr = wire.address.parse().unwrap();
        among.push(Upstream { name: member.name(), region: REGION.to_owned(), address });
        links.push(Link { from: Role::Edge, number, to: role, wires: vec![wire] });
    }
    let config = ServerConfig::within(folder.join("edge")).unwrap();
    Envoy::start(EdgeConfig::new(config, &[REGION]), &upstreams).await.unwrap()
}

/// How the tasks are, by what a worker says.
pub async fn tasks(worker: &Member) -> Option<Value> {
    let answer = reqwest::get(format!("{}/tasks", worker.service().url)).await.ok()?;
    answer.json().await.ok()
}
