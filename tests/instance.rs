//! A service that is a process of its own, which can be killed and paused.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use reqwest::StatusCode;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use stack::{
    ports,
    program::Running,
    servers::NatsCluster,
    services::{self, COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, ServiceConfig, TASK_WORKER},
};

use crate::harness::{Place, Served, programs, until};

/// Variables that a service is started with.
pub type Settings = Vec<(&'static str, OsString)>;

/// More than an instance needs to leave in good order.
const GRACE: Duration = Duration::from_secs(10);

pub struct Instance {
    pub url: String,
    pub port: u16,
    running: Running,
    log: PathBuf,
}

impl Served for Instance {
    fn url(&self) -> &str {
        &self.url
    }
}

impl Instance {
    /// Starts a command-service that keeps its state in `state`, and waits until it is ready.
    pub async fn start(place: &Place, state: &Path) -> Self {
        Self::start_with(place, state, vec![]).await
    }

    /// The same with settings.
    pub async fn start_with(place: &Place, state: &Path, settings: Settings) -> Self {
        Self::run(COMMAND_SERVICE, place, Some(state), state.with_extension("log"), settings).await
    }

    /// Starts a projector of some views, or of all if none are named, and waits until it is ready.
    pub async fn projector(place: &Place, log: PathBuf, views: &str) -> Self {
        let settings = if views.is_empty() { vec![] } else { vec![("HEADWATER_VIEWS", views.into())] };
        Self::projector_with(place, log, settings).await
    }

    /// Starts a projector with these settings, and waits until it is ready.
    pub async fn projector_with(place: &Place, log: PathBuf, settings: Settings) -> Self {
        Self::run(PROJECTOR, place, None, log, settings).await
    }

    /// Starts a query-service, and waits until it is ready.
    pub async fn query_service(place: &Place, log: PathBuf) -> Self {
        Self::query_service_with(place, log, vec![]).await
    }

    /// The same with settings.
    pub async fn query_service_with(place: &Place, log: PathBuf, settings: Settings) -> Self {
        Self::run(QUERY_SERVICE, place, None, log, settings).await
    }

    /// Starts a task-worker with these settings, and waits until it is ready.
    pub async fn task_worker(place: &Place, log: PathBuf, settings: &[(&'static str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (*name, value.into())).collect();
        Self::task_worker_with(place, log, settings).await
    }

    /// The same with settings of any kind.
    pub async fn task_worker_with(place: &Place, log: PathBuf, settings: Settings) -> Self {
        Self::run(TASK_WORKER, place, None, log, settings).await
    }

    /// Starts a command-service over a cluster, and waits until it is ready. If there is no log yet, it has one copy.
    pub async fn over(nats: &NatsCluster, namespace: &str, state: &Path) -> Self {
        let port = ports::next_free(0).unwrap();
        let config = ServiceConfig {
            port,
            namespace: namespace.to_owned(),
            nats_url: nats.url_as(COMMAND_SERVICE),
            nats_monitor_url: nats.monitor_url(),
            database_url: None,
            state_folder: Some(state.to_owned()),
            settings: vec![],
            log: state.with_extension("log"),
        };
        Self::of(COMMAND_SERVICE, config).await
    }

    async fn run(
        name: &'static str,
        place: &Place,
        state: Option<&Path>,
        log: PathBuf,
        settings: Settings,
    ) -> Self {
        let port = ports::next_free(0).unwrap();
        let config = ServiceConfig {
            port,
            namespace: place.namespace.clone(),
            nats_url: place.servers.nats.url_as(name),
            nats_monitor_url: place.servers.nats.monitor_url(),
            database_url: [PROJECTOR, QUERY_SERVICE].contains(&name).then(|| place.database_url_as(name)),
            state_folder: state.map(Path::to_owned),
            settings,
            log,
        };
        Self::of(name, config).await
    }

    /// Starts a service that is told this, and waits until it is ready.
    pub async fn of(name: &'static str, config: ServiceConfig) -> Self {
        let (port, log) = (config.port, config.log.clone());
        let program = services::program(programs().await, name, config);
        let running = Running::start(program).await.unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), port, running, log }
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub async fn is_writer(&self) -> bool {
        let request = reqwest::Client::new().get(format!("{}/health/writer", self.url));
        // One that is paused does not answer at all.
        let answer = request.timeout(Duration::from_millis(500)).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Waits until it has ended.
    pub async fn exited(&self) -> ExitStatus {
        self.running.exited().await
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub async fn stop(&self) {
        self.running.stop(GRACE).await;
    }

    /// Sends SIGKILL.
    pub async fn kill(&self) {
        self.running.kill().await;
    }

    /// Starts it again on the same port, over the same state if it has one, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.running.restart(GRACE).await.unwrap();
    }

    pub fn pause(&self) {
        pause(self.running.pid());
    }

    pub fn resume(&self) {
        resume(self.running.pid());
    }
}

/// Stops one of our processes until it is resumed; what is sent to it meanwhile waits.
pub fn pause(pid: u32) {
    signal(pid, Signal::STOP);
}

pub fn resume(pid: u32) {
    signal(pid, Signal::CONT);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // One that has ended meanwhile needs none.
    let sent = kill_process(pid, signal);
    assert!(matches!(sent, Ok(()) | Err(Errno::SRCH)), "{sent:?}");
}

/// Waits until one of the instances writes, and tells which.
pub async fn writer(instances: &[Instance]) -> usize {
    let mut found = None;
    until("somebody writes", async || {
        for (index, instance) in instances.iter().enumerate() {
            if instance.is_writer().await {
                found = Some(index);
            }
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}
