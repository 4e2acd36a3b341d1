//! A log that is kept on several servers, one of which leads the others.

use async_nats::jetstream::{self, stream::Info};
use clap::Parser;
use event_log::EventLog;
use serde_json::json;
use service_kit::Shutdown;
use stack::servers::{NatsCluster, ServerConfig, temporary_folder};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::harness::until;

/// What the servers say of the log's stream.
pub async fn info(log: &EventLog) -> Option<Info> {
    let stream = format!("{}_LOG", log.namespace());
    let stream = jetstream::new(log.client().clone()).get_stream(stream).await;
    Some(stream.ok()?.cached_info().clone())
}

/// Whether each of three copies has all that the first has, so that whoever is read from knows everything.
pub async fn are_current(log: &EventLog) -> bool {
    let Some(cluster) = info(log).await.and_then(|info| info.cluster) else { return false };
    cluster.replicas.len() == 2
        && cluster.replicas.iter().all(|copy| copy.current && !copy.offline && copy.lag.unwrap_or(0) == 0)
}

#[tokio::test]
async fn an_answer_without_an_effect_is_proven_by_an_append() {
    let folder = temporary_folder().unwrap();
    let config = |node: usize| ServerConfig::within(folder.path().join(format!("nats-{node}"))).unwrap();
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

    let account = Uuid::now_v7();
    let send = async |name: &str, body| {
        let request = reqwest::Client::new().post(format!("{url}/accounts/{account}/{name}")).json(&body);
        request.send().await.map(|answer| answer.status().as_u16())
    };
    let register = json!({"email": "ada@example.org", "username": "ada"});
    until("the account is registered", async || {
        matches!(send("register", register.clone()).await, Ok(201 | 422))
    })
    .await;
    let log = EventLog::new(service_kit::nats::connect(&cluster.url(), "test").await.unwrap(), "test");
    let before = log.head().await.unwrap();
    // A leader that others have replaced would say, too, that nothing has come after what it knows.
    assert_eq!(send("register", register).await.unwrap(), 422);
    assert_eq!(send("change-email", json!({"email": "ada@example.org"})).await.unwrap(), 200);
    let after = log.head().await.unwrap();
    assert_eq!(after.sequence, before.sequence + 2);
    assert_eq!((after.position, after.term), (before.position, before.term));
    let findings = replay::check(&log, |_| ()).await.unwrap();
    assert!(findings.is_clean(), "{findings:#?}");
    shutdown.cancel();
    service.await.unwrap().unwrap();
}
