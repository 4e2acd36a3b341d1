//! A log that is kept on several servers, one of which leads the others.

use std::{fs, path::PathBuf};

use async_nats::jetstream::{self, stream::Info};
use clap::Parser;
use event_log::EventLog;
use serde_json::{Value, json};
use service_kit::Shutdown;
use stack::servers::{NatsCluster, ServerConfig, temporary_folder};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use uuid::Uuid;

use crate::harness::until;

/// What the servers say of the log's stream.
pub async fn info(log: &EventLog) -> Option<Info> {
    info_of(log, &format!("{}_LOG", log.namespace())).await
}

async fn info_of(log: &EventLog, stream: &str) -> Option<Info> {
    let stream = jetstream::new(log.client().clone()).get_stream(stream).await;
    Some(stream.ok()?.cached_info().clone())
}

/// Whether each of three servers has everything of the log, so that whoever is read from knows everything, and of the
/// writer's lease: before that, a server that lost its store is none of the two that have to be there.
pub async fn are_current(log: &EventLog) -> bool {
    let lease = format!("KV_{}_WRITER", log.namespace());
    let of_log_and_lease = [info(log).await, info_of(log, &lease).await];
    of_log_and_lease.into_iter().all(|info| {
        let replicas = info.and_then(|info| info.cluster).map_or(vec![], |cluster| cluster.replicas);
        replicas.len() == 2
            && replicas.iter().all(|copy| copy.current && !copy.offline && copy.lag.unwrap_or(0) == 0)
    })
}

/// Three servers, and a command-service whose log each of them has.
struct Site {
    cluster: NatsCluster,
    log: EventLog,
    url: String,
    shutdown: Shutdown,
    service: JoinHandle<anyhow::Result<()>>,
    /// Of the servers, one each, and of the service.
    folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = temporary_folder().unwrap();
        let config = |node: usize| ServerConfig::within(node_of(&folder, node)).unwrap();
        let cluster = NatsCluster::start((1..=3).map(config).collect()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = command_service::Config::parse_from([
            "service",
            "--namespace=test",
            "--log-replicas=3",
            "--nats-url",
            &cluster.url_as("command-service"),
            "--nats-monitor-url",
            &cluster.monitor_url(),
            "--state-dir",
            folder.path().join("state").to_str().unwrap(),
        ]);
        let shutdown = Shutdown::new();
        let service = tokio::spawn(command_service::serve(listener, config, shutdown.clone()));
        let client = service_kit::nats::connect(&cluster.url(), "test").await.unwrap();
        Self { log: EventLog::new(client, "test"), cluster, url, shutdown, service, folder }
    }

    /// The status of the answer, if there is one.
    async fn send(&self, account: Uuid, command: &str, body: &Value) -> Option<u16> {
        let url = format!("{}/accounts/{account}/{command}", self.url);
        let answer = reqwest::Client::new().post(url).json(body).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    async fn until_registered(&self, account: Uuid, name: &str) {
        let body = json!({"email": format!("{name}@example.org"), "username": name});
        until("the account is registered", async || {
            matches!(self.send(account, "register", &body).await, Some(201 | 422))
        })
        .await;
    }

    async fn stop(self) {
        let findings = replay::check(&self.log, |_| ()).await.unwrap();
        assert!(findings.is_clean(), "{findings:#?}");
        self.shutdown.cancel();
        self.service.await.unwrap().unwrap();
    }
}

fn node_of(folder: &TempDir, node: usize) -> PathBuf {
    folder.path().join(format!("nats-{node}"))
}

#[tokio::test]
async fn an_answer_without_an_effect_is_proven_by_an_append() {
    let site = Site::start().await;
    let account = Uuid::now_v7();
    site.until_registered(account, "ada").await;
    let before = site.log.head().await.unwrap();
    // A leader that others have replaced would say, too, that nothing has come after what it knows.
    let again = json!({"email": "ada@example.org", "username": "ada"});
    assert_eq!(site.send(account, "register", &again).await, Some(422));
    assert_eq!(site.send(account, "change-email", &json!({"email": "ada@example.org"})).await, Some(200));
    let after = site.log.head().await.unwrap();
    assert_eq!(after.sequence, before.sequence + 2);
    assert_eq!((after.position, after.term), (before.position, before.term));
    site.stop().await;
}

/// Its disk was lost, or what was on it is of no use.
#[tokio::test]
async fn a_node_without_a_store_gets_its_copies_from_the_others_and_may_then_be_one_of_two() {
    let mut site = Site::start().await;
    for name in ["ada", "grace"] {
        site.until_registered(Uuid::now_v7(), name).await;
    }
    site.cluster.nodes[2].kill().await;
    fs::remove_dir_all(node_of(&site.folder, 3).join("jetstream")).unwrap();
    site.until_registered(Uuid::now_v7(), "edsger").await;
    site.cluster.nodes[2].restart().await.unwrap();
    until("each has everything again", async || are_current(&site.log).await).await;

    site.cluster.nodes[0].kill().await;
    site.until_registered(Uuid::now_v7(), "barbara").await;
    assert_eq!(site.log.head().await.unwrap().position, 4);
    site.stop().await;
}
