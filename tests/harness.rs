//! What every test starts from: a NATS and a Postgres that all tests of the process share, and a
//! [`World`], the three services in a namespace and a database that no other test knows.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use async_nats::Client;
use clap::Parser;
use domain::{policy, view::Definition};
use event_log::EventLog;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use service_kit::Shutdown;
use sqlx::{Connection, PgConnection};
use stack::{
    servers::{Nats, Postgres, ServerConfig, temporary_folder},
    services::{self, COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, OnceCell},
    task::JoinHandle,
};
use uuid::Uuid;

/// Nothing that a test waits for takes this long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The servers that the tests of this process share.
pub struct Servers {
    pub nats: Nats,
    pub postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Servers {
    /// Where the NATS server keeps its streams.
    pub fn streams(&self) -> PathBuf {
        self.folder.path().join("nats/jetstream")
    }

    /// The shared ones. They stop when the last test that uses them is over.
    pub async fn shared() -> Arc<Self> {
        static SERVERS: Mutex<Weak<Servers>> = Mutex::const_new(Weak::new());
        let mut shared = SERVERS.lock().await;
        if let Some(servers) = shared.upgrade() {
            return servers;
        }
        let servers = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&servers);
        servers
    }

    /// Servers of one's own, to be maltreated.
    pub async fn start() -> Self {
        Self::around(async |config| Nats::start(config).await.unwrap()).await
    }

    /// The same, whose users may use one namespace.
    pub async fn start_for(namespace: &str) -> Self {
        Self::around(async |config| Nats::start_for(config, namespace).await.unwrap()).await
    }

    /// The same, whose NATS is the centre of regions with leaf nodes.
    pub async fn start_hub() -> Self {
        Self::around(async |config| Nats::start_hub(config).await.unwrap()).await
    }

    /// The same Postgres beside another NATS.
    pub fn with_nats(self, nats: Nats) -> Self {
        Self { nats, ..self }
    }

    async fn around(nats: impl AsyncFnOnce(ServerConfig) -> Nats) -> Self {
        let folder = temporary_folder().unwrap();
        let config = |name: &str| ServerConfig::within(folder.path().join(name)).unwrap();
        let nats = nats(config("nats")).await;
        // All tests' services connect to this one server.
        let settings = [("max_connections", "400")];
        let postgres = Postgres::start(config("postgres"), &settings).await.unwrap();
        Self { nats, postgres, folder }
    }
}

/// What answers at a URL.
pub trait Served {
    fn url(&self) -> &str;
}

/// A service that runs inside the test's process.
pub struct Service {
    pub url: String,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Served for Service {
    fn url(&self) -> &str {
        &self.url
    }
}

impl Service {
    /// Ends the service as SIGTERM would.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }

    /// Ends the service between any two steps, as a crash would.
    pub async fn crash(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// Starts a service on a free port: `$config` is its clap struct, `$serve` its main function.
macro_rules! service {
    ($world:expr, $user:expr, $config:ty, $serve:expr, $($argument:expr),*) => {{
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let nats_url = $world.servers.nats.url_as($user);
        let ours = ["service", "--namespace", &$world.namespace, "--nats-url", &nats_url, $($argument),*];
        let config = <$config>::parse_from(ours.into_iter().chain($world.flags()));
        let shutdown = Shutdown::new();
        let task = tokio::spawn($serve(listener, config, shutdown.clone()));
        Service { url, shutdown, task }
    }};
}

/// A namespace and a database, without any service yet.
pub struct Place {
    pub servers: Arc<Servers>,
    pub namespace: String,
    /// As its owner.
    pub database_url: String,
    /// Where command-services keep their state.
    states: tempfile::TempDir,
    /// What all services of the place are told more.
    flags: Vec<String>,
}

impl Place {
    pub async fn new(servers: Arc<Servers>) -> Self {
        Self::named(servers, format!("t{}", Uuid::now_v7().simple())).await
    }

    /// The same of a name that is given.
    pub async fn named(servers: Arc<Servers>, namespace: String) -> Self {
        let mut admin = PgConnection::connect(&servers.postgres.url()).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("create database {namespace}"));
        sqlx::query(create).execute(&mut admin).await.unwrap();
        let database_url = servers.postgres.database_url(&namespace);
        projector::migrate(&database_url).await.unwrap();
        Self::with(servers, namespace, database_url)
    }

    /// A namespace and a database that exist, without any state of a command-service.
    pub fn with(servers: Arc<Servers>, namespace: String, database_url: String) -> Self {
        Self { servers, namespace, database_url, states: temporary_folder().unwrap(), flags: vec![] }
    }

    /// The same, where all services that run within the test's process are told this, too.
    pub fn told(self, flags: Vec<String>) -> Self {
        Self { flags, ..self }
    }

    fn flags(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().map(String::as_str)
    }

    /// As the user that a service is.
    pub fn database_url_as(&self, service: &str) -> String {
        self.servers.postgres.url_as(service, &self.database_url)
    }

    /// A command-service without any state yet.
    pub async fn command_service(&self) -> Service {
        self.command_service_in(&self.states.path().join(Uuid::now_v7().to_string())).await
    }

    /// A command-service that keeps its state in a folder, which may hold one already.
    pub async fn command_service_in(&self, folder: &Path) -> Service {
        let folder = folder.to_str().unwrap();
        let monitor_url = self.servers.nats.monitor_url();
        let serve = command_service::serve;
        service!(
            self,
            COMMAND_SERVICE,
            command_service::Config,
            serve,
            "--state-dir",
            folder,
            "--nats-monitor-url",
            &monitor_url
        )
    }

    pub async fn query_service(&self) -> Service {
        service!(
            self,
            QUERY_SERVICE,
            query_service::Config,
            query_service::serve,
            "--database-url",
            &self.database_url_as(QUERY_SERVICE)
        )
    }

    /// A query-service that hears signals over `nats_url`, with more settings.
    pub async fn query_service_with(&self, nats_url: &str, settings: &[&str]) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ours = ["service", "--namespace", &self.namespace, "--nats-url", nats_url];
        let database_url = self.database_url_as(QUERY_SERVICE);
        let database = ["--database-url", &database_url];
        let config = query_service::Config::parse_from(ours.iter().chain(&database).chain(settings));
        let shutdown = Shutdown::new();
        let task = tokio::spawn(query_service::serve(listener, config, shutdown.clone()));
        Service { url, shutdown, task }
    }

    /// Shows how the database would serve a query-service of this place.
    pub async fn inspector(&self) -> query_service::Inspector {
        let config = query_service::Config::parse_from([
            "service",
            "--namespace",
            &self.namespace,
            "--nats-url",
            &self.servers.nats.url_as(QUERY_SERVICE),
            "--database-url",
            &self.database_url_as(QUERY_SERVICE),
        ]);
        query_service::Inspector::open(&config).await.unwrap()
    }

    pub async fn projector(&self) -> Service {
        self.projector_of(domain::views::ALL).await
    }

    /// A projector of other views than the application's, or of other versions.
    pub async fn projector_of(&self, views: &'static [Definition]) -> Service {
        self.projector_with(views, "quarantine").await
    }

    /// The same, with what it is to do about unknown events.
    pub async fn projector_with(&self, views: &'static [Definition], unknown_events: &str) -> Service {
        let serve = |listener, config, shutdown| projector::serve(listener, config, views, shutdown);
        service!(
            self,
            PROJECTOR,
            projector::Config,
            serve,
            "--database-url",
            &self.database_url_as(PROJECTOR),
            "--stall-seconds",
            "2",
            "--unknown-events",
            unknown_events
        )
    }

    /// A task-worker of these policies, that makes emails of what `settings` say, and looks addresses up at `queries`.
    pub async fn task_worker_of(
        &self,
        policies: &'static [policy::Definition],
        queries: &Service,
        settings: &[&str],
    ) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let nats_url = self.servers.nats.url_as(TASK_WORKER);
        let ours =
            ["service", "--namespace", &self.namespace, "--nats-url", &nats_url, "--query-url", &queries.url];
        let settings = settings.iter().copied().chain(self.flags());
        let config = task_worker::Config::parse_from(ours.into_iter().chain(settings));
        let shutdown = Shutdown::new();
        let serve = task_worker::serve(listener, config, policies, shutdown.clone());
        Service { url, shutdown, task: tokio::spawn(serve) }
    }

    pub async fn nats(&self) -> Client {
        service_kit::nats::connect(&self.servers.nats.url(), "test").await.unwrap()
    }

    pub async fn log(&self) -> EventLog {
        EventLog::new(self.nats().await, &self.namespace)
    }

    pub async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.database_url).await.unwrap()
    }
}

/// The whole system, ready.
pub struct World {
    pub place: Place,
    pub commands: Service,
    pub queries: Service,
    pub projector: Service,
    http: reqwest::Client,
}

impl World {
    pub async fn start() -> Self {
        Self::at(Place::new(Servers::shared().await).await).await
    }

    pub async fn at(place: Place) -> Self {
        let queries = place.query_service().await;
        Self::with(place, queries).await
    }

    /// Around a query-service that runs.
    pub async fn with(place: Place, queries: Service) -> Self {
        let (commands, projector) = tokio::join!(place.command_service(), place.projector());
        let world = Self { place, commands, queries, projector, http: reqwest::Client::new() };
        for service in [&world.commands, &world.queries, &world.projector] {
            world.until_ready(service).await;
        }
        world
    }

    pub async fn until_ready(&self, service: &Service) {
        let url = format!("{}/health/ready", service.url);
        until("the service is ready", async || {
            let answer = self.http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// A request to the command-service.
    pub fn post(&self, path: &str) -> Call {
        Call(self.http.request(Method::POST, format!("{}{path}", self.commands.url)))
    }

    /// A request to the query-service.
    pub fn get(&self, path: &str) -> Call {
        Call(self.http.request(Method::GET, format!("{}{path}", self.queries.url)))
    }

    /// Registers an account, and gives its id.
    pub async fn registered(&self, name: &str) -> Uuid {
        let body = serde_json::json!({"email": format!("{name}@example.org"), "username": name});
        let answer = self.post("/accounts/register").json(&body).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.body["id"].as_str().unwrap().parse().unwrap()
    }

    /// Places an order, and gives the answer.
    pub async fn placed(&self, account: Uuid, cents: i64, day: &str) -> Answer {
        let body = serde_json::json!({"account_id": account, "quantity": 1, "amount_cents": cents,
            "currency": "USD", "placed_at": format!("{day}T12:00:00Z")});
        let answer = self.post("/orders/place").json(&body).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer
    }

    /// The types of all events in the log.
    pub async fn event_types(&self) -> Vec<String> {
        let mut follower = self.place.log().await.follow(Default::default());
        let mut types = Vec::new();
        loop {
            let frames = follower.available().await.unwrap();
            if frames.is_empty() {
                return types;
            }
            types.extend(frames.into_iter().flat_map(|frame| frame.events).map(|event| event.r#type));
        }
    }

    /// What is left when the services are gone.
    pub fn into_servers(self) -> Servers {
        Arc::into_inner(self.place.servers).expect("nobody else uses the servers")
    }

    /// Every view is what the log folds to, and the log keeps its own rules.
    pub async fn verify(&self) {
        verify(&self.place).await;
    }
}

/// Every view is folded up to the end of the log, and is what the log folds to.
pub async fn verify(place: &Place) {
    let log = place.log().await;
    let head = log.head().await.unwrap().position;
    let mut database = place.database().await;
    until("every view is folded up to the end of the log", async || {
        let least = sqlx::query_scalar("select min(position) from checkpoints join views on name = view and views.build = checkpoints.build").fetch_one(&mut database);
        let least: i64 = least.await.unwrap();
        least as u64 >= head
    })
    .await;
    let report = replay::verify(&log, &place.database_url_as("replay"), |_| ()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// One request.
pub struct Call(reqwest::RequestBuilder);

impl Call {
    pub fn new(request: reqwest::RequestBuilder) -> Self {
        Self(request)
    }

    pub fn header(self, name: &str, value: impl ToString) -> Self {
        Self(self.0.header(name, value.to_string()))
    }

    pub fn token(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub async fn send(self) -> Answer {
        let response = self.0.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body as JSON; null if it is not.
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:?}")).to_str().unwrap()
    }

    /// The status and the problem's code.
    pub fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16(), "{self:?}");
        (self.status.as_u16(), self.body["code"].as_str().unwrap())
    }
}

/// The folder with the programs that the tests start, all built together before the first of them is.
pub async fn programs() -> &'static Path {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let all = [COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER, "replay", "stack"];
    FOLDER.get_or_init(async || services::find_or_build(&all).await.unwrap()).await
}

/// Waits until `condition` holds; panics with `what` if it never does.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("waited in vain until {what}");
    }
}
