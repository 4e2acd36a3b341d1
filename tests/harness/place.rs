//! Where services of one test are: a namespace and a database that no other test knows.

use std::{path::Path, sync::Arc};

use async_nats::Client;
use clap::Parser;
use domain::{policy, view::Definition};
use event_log::EventLog;
use sqlx::{Connection, PgConnection};
use stack::{
    servers::temporary_folder,
    services::{COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER},
};
use uuid::Uuid;

use super::{Servers, Service};

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

    /// What a service of this place is told, with more.
    fn config<C: Parser>(&self, service: &str, more: &[&str]) -> C {
        self.config_over(&self.servers.nats.url_as(service), more)
    }

    /// The same of one that reaches NATS by another way.
    fn config_over<C: Parser>(&self, nats_url: &str, more: &[&str]) -> C {
        let ours = ["service", "--namespace", &self.namespace, "--nats-url", nats_url];
        C::parse_from(ours.iter().chain(more).copied().chain(self.flags.iter().map(String::as_str)))
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
        let monitor_url = self.servers.nats.monitor_url();
        let more = ["--state-dir", folder.to_str().unwrap(), "--nats-monitor-url", &monitor_url];
        let config = self.config(COMMAND_SERVICE, &more);
        Service::start(|listener, shutdown| command_service::serve(listener, config, shutdown)).await
    }

    pub async fn query_service(&self) -> Service {
        self.query_service_with(&self.servers.nats.url_as(QUERY_SERVICE), &[]).await
    }

    /// A query-service that hears signals over `nats_url`, with more settings.
    pub async fn query_service_with(&self, nats_url: &str, settings: &[&str]) -> Service {
        let database_url = self.database_url_as(QUERY_SERVICE);
        let config = self.config_over(nats_url, &[&["--database-url", &database_url], settings].concat());
        Service::start(|listener, shutdown| query_service::serve(listener, config, shutdown)).await
    }

    /// Shows how the database would serve a query-service of this place.
    pub async fn inspector(&self) -> query_service::Inspector {
        let config = self.config(QUERY_SERVICE, &["--database-url", &self.database_url_as(QUERY_SERVICE)]);
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
        let database_url = self.database_url_as(PROJECTOR);
        let more = ["--database-url", &database_url, "--stall-seconds=2", "--unknown-events", unknown_events];
        let config = self.config(PROJECTOR, &more);
        Service::start(|listener, shutdown| projector::serve(listener, config, views, shutdown)).await
    }

    /// A task-worker of these policies, that makes emails of what `settings` say, and looks addresses up at `queries`.
    pub async fn task_worker_of(
        &self,
        policies: &'static [policy::Definition],
        queries: &Service,
        settings: &[&str],
    ) -> Service {
        let config = self.config(TASK_WORKER, &[&["--query-url", &queries.url], settings].concat());
        Service::start(|listener, shutdown| task_worker::serve(listener, config, policies, shutdown)).await
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
