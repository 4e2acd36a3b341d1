//! `stack up`: one command, from nothing to a system that answers, until Ctrl-C.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::backing::Backing;
use crate::control::Control;
use crate::data_folder::DataFolder;
use crate::endpoints::Endpoints;
use crate::fleet::{Fleet, Standby, Surroundings, Tokens, WantedPorts};
use crate::issuer::Issuer;
use crate::sample::Sample;
use crate::scale::{INSTANCES_MAX, Scale, Service};
use crate::stop::Stop;
use crate::supervisor::Supervisor;
use crate::{operate, screen, services};

const REGIONS_MAX: usize = 8;
/// A stream has at most so many copies, on however many nodes.
const LOG_REPLICAS_MAX: usize = 3;

/// A port that is taken is replaced by the next free one; 0 means any free port.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where everything is kept: log, database, log files, endpoints.json
    #[arg(long, env = "HEADWATER_DATA_DIR", default_value = ".headwater")]
    pub data_dir: PathBuf,

    /// Which sample is loaded when the log is empty
    #[arg(long, value_enum, default_value = "small")]
    pub sample: SampleChoice,

    /// Prefix of every stream and subject
    #[arg(long, env = "HEADWATER_NAMESPACE", default_value = "headwater")]
    pub namespace: String,

    /// Query-services, spread over the regions; without it, one in each
    #[arg(long, value_name = "N")]
    pub replicas: Option<usize>,

    /// Regions, separated by commas; what is central is in the first
    #[arg(long, value_name = "REGION", value_delimiter = ',', default_value = "local", value_parser = region)]
    pub regions: Vec<String>,

    /// Standbys of Postgres, spread over the regions; without it, none for one region, else one in each
    #[arg(long, value_name = "N")]
    pub standbys: Option<usize>,

    /// Nodes of NATS; with several, each stream has three copies
    #[arg(long, value_name = "1|3|5", default_value_t = 1, value_parser = nats_nodes)]
    pub nats_nodes: usize,

    /// Ask for tokens in all services, signed with a key of this data folder; `stack token` makes one
    #[arg(long)]
    pub auth: bool,

    /// Port of the edge, which is there when more than one service takes commands or queries
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub edge_port: u16,

    /// Port of the command-service: POST commands here
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    pub command_port: u16,

    /// Port of the query-service: GET views here
    #[arg(long, value_name = "PORT", default_value_t = 8082)]
    pub query_port: u16,

    /// Port of the projector: health and metrics
    #[arg(long, value_name = "PORT", default_value_t = 8083)]
    pub projector_port: u16,

    /// Port of the task-worker: tasks and dead letters
    #[arg(long, value_name = "PORT", default_value_t = 8084)]
    pub task_worker_port: u16,

    /// Where emails go, as the task-worker takes it: smtp://…, smtps://…, file:<folder> or null:; without it, into the
    /// folder `mail` of the data folder
    #[arg(long, env = "HEADWATER_MAIL", hide_env_values = true, value_name = "URL")]
    pub mail: Option<String>,

    /// Port of the NATS server
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub nats_port: u16,

    /// Port of Postgres
    #[arg(long, value_name = "PORT", default_value_t = 5432)]
    pub postgres_port: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SampleChoice {
    /// CDNOW, every tenth customer: 2,357 customers with 6,919 orders
    Small,
    /// CDNOW, all 23,570 customers with 69,659 orders
    Full,
    /// Nothing
    None,
}

impl Options {
    /// Where emails go.
    pub fn mail_target(&self, data: &DataFolder) -> String {
        self.mail.clone().unwrap_or_else(|| format!("file:{}", data.path().join("mail").display()))
    }

    /// How many of each service run once everything has started.
    fn scale(&self) -> Result<Scale> {
        let Self { regions, standbys, .. } = self;
        ensure!(regions.len() <= REGIONS_MAX, "--regions: there may be {REGIONS_MAX} of them");
        let is_twice = |region| regions.iter().filter(|other| *other == region).count() > 1;
        let twice = regions.iter().find(|region| is_twice(*region));
        ensure!(twice.is_none(), "--regions: {} is there twice", twice.map_or("", |region| region));
        let replicas = self.replicas.unwrap_or(regions.len());
        for (what, count) in [("--replicas", replicas), ("--standbys", standbys.unwrap_or(0))] {
            ensure!(count <= INSTANCES_MAX, "{what} {count}: at most {INSTANCES_MAX} run on one machine");
        }
        ensure!(replicas > 0, "--replicas 0: at least one has to run");
        Ok(Scale::new(regions, replicas))
    }

    /// The region of each standby.
    pub fn standby_regions(&self) -> Vec<String> {
        let regions = self.regions.len();
        let count = self.standbys.unwrap_or(if regions > 1 { regions } else { 0 });
        self.regions.iter().cycle().take(count).cloned().collect()
    }

    fn ports(&self) -> WantedPorts {
        WantedPorts {
            edge: self.edge_port,
            command: self.command_port,
            query: self.query_port,
            projector: self.projector_port,
            task_worker: self.task_worker_port,
        }
    }

    pub fn sample(&self) -> Option<Sample> {
        match self.sample {
            SampleChoice::Small => Some(Sample::Small),
            SampleChoice::Full => Some(Sample::Full),
            SampleChoice::None => None,
        }
    }
}

/// Runs the whole system until it is asked to stop.
pub async fn up(options: Options) -> Result<()> {
    let scale = options.scale()?;
    let stop = Stop::on_signals()?;
    let data = DataFolder::lock(&options.data_dir)?;
    // Whatever ran on this folder before does not run any more.
    Endpoints::remove(data.path());
    Issuer::close(data.path());
    let mut supervisor = Supervisor::new();
    let outcome = tokio::select! {
        biased;
        () = stop.requested() => Ok(()),
        outcome = run(&options, &scale, &data, &mut supervisor) => outcome,
    };
    Endpoints::remove(data.path());
    screen::say("stopping …");
    supervisor.stop().await;
    screen::say("stopped");
    outcome
}

/// Ends only with an error. Dropped in the middle, it leaves to the supervisor what has started by then.
async fn run(options: &Options, scale: &Scale, data: &DataFolder, supervisor: &mut Supervisor) -> Result<()> {
    let binaries = services::binaries().await?;
    let started = Instant::now();
    let control = Control::open(data.path());
    let backing = Backing::start(options, data, binaries).await?;
    let tokens = if options.auth { Some(Tokens::open(data.path())?) } else { None };
    let surroundings = Surroundings {
        binaries,
        namespace: options.namespace.clone(),
        nats_url: backing.nats_url(),
        nats_urls: Service::ALL.into_iter().map(|service| (service, backing.nats_url_as(service))).collect(),
        nats_monitor_url: backing.nats_monitor_url(),
        log_replicas: options.nats_nodes.min(LOG_REPLICAS_MAX),
        database_url: backing.database_url(),
        database_urls: [Service::Projector, Service::Query]
            .into_iter()
            .map(|service| (service, backing.database_url_as(service)))
            .collect(),
        standbys: backing.standbys().into_iter().map(|(region, url)| Standby { region, url }).collect(),
        regions: options.regions.clone(),
        mail: options.mail_target(data),
        ports: options.ports(),
        tokens,
    };
    let servers = backing.supervise(supervisor, &options.regions[0]);
    let fleet = Fleet::new(surroundings, data, supervisor, servers);
    operate::run(options, data, fleet, scale, control, started).await
}

/// It becomes a part of subjects, file names and Envoy's cluster names.
fn region(text: &str) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match text.len() {
        1..=32 if text.chars().all(is_word) => Ok(text.to_owned()),
        _ => Err("a region's name has 1 to 32 characters of a–z, 0–9 and -".to_owned()),
    }
}

/// A majority of an even number is no smaller than that of the next odd one.
fn nats_nodes(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("there are 1, 3 or 5 nodes".to_owned()),
    }
}
