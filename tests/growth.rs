//! From one node of NATS to three.

use std::{sync::Arc, time::Instant};

use async_nats::{
    Client, Message, RequestErrorKind,
    jetstream::{self, stream::Config},
};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use service_kit::nats::connect_now;
use stack::servers::{NatsCluster, ServerConfig, temporary_folder};

use crate::{
    harness::{Place, Servers, World, until},
    smtp::SmtpServer,
    tasks::{registered, started, until_idle},
};

const NAMESPACE: &str = "shop";
const STREAMS: [&str; 3] = ["shop_LOG", "shop_TASKS", "shop_DEAD_LETTERS"];

/// What `nats stream backup` keeps of a stream.
struct Backup {
    config: Value,
    state: Value,
    chunks: Vec<Bytes>,
}

async fn ask(client: &Client, subject: String, body: &Value) -> Value {
    let answer = client.request(subject, body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["error"].is_null(), "{answer}");
    answer
}

async fn back_up(client: &Client, stream: &str) -> Backup {
    let inbox = client.new_inbox();
    let mut arriving = client.subscribe(inbox.clone()).await.unwrap();
    let body = json!({"deliver_subject": inbox, "chunk_size": 65_536});
    let begun = ask(client, format!("$JS.API.STREAM.SNAPSHOT.{stream}"), &body).await;
    let mut chunks = Vec::new();
    loop {
        let chunk = arriving.next().await.unwrap();
        if chunk.payload.is_empty() {
            return Backup { config: begun["config"].clone(), state: begun["state"].clone(), chunks };
        }
        chunks.push(chunk.payload);
        if let Some(reply) = chunk.reply {
            client.publish(reply, Bytes::new()).await.unwrap();
        }
    }
}

/// The node that we ask may not have heard yet that another one waits for this.
async fn deliver(client: &Client, subject: &str, chunk: &Bytes) -> Message {
    let mut reply = None;
    until("somebody waits for what is restored", async || {
        match client.request(subject.to_owned(), chunk.clone()).await {
            Err(error) if error.kind() == RequestErrorKind::NoResponders => false,
            answer => {
                reply = Some(answer.unwrap());
                true
            }
        }
    })
    .await;
    reply.unwrap()
}

/// What `nats stream restore --replicas 3` does with it.
async fn restore(client: &Client, stream: &str, backup: &Backup) {
    let mut config = backup.config.clone();
    config["num_replicas"] = json!(3);
    let body = json!({"config": config, "state": backup.state});
    let begun = ask(client, format!("$JS.API.STREAM.RESTORE.{stream}"), &body).await;
    let target = begun["deliver_subject"].as_str().unwrap().to_owned();
    for chunk in &backup.chunks {
        deliver(client, &target, chunk).await;
    }
    let done = deliver(client, &target, &Bytes::new()).await;
    let done: Value = serde_json::from_slice(&done.payload).unwrap();
    assert!(done["error"].is_null(), "{done}");
}

async fn until_three_copies(client: &Client, stream: &str) {
    let jetstream = jetstream::new(client.clone());
    until("there are three copies, all current", async || {
        let Ok(stream) = jetstream.get_stream(stream).await else { return false };
        let Some(cluster) = &stream.cached_info().cluster else { return false };
        let copies = &cluster.replicas;
        copies.len() == 2 && copies.iter().all(|copy| copy.current && copy.lag.unwrap_or(0) == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_becomes_three_and_nothing_is_lost() {
    let smtp = SmtpServer::start().await;
    let servers = Arc::new(Servers::start_for(NAMESPACE).await);
    let place = Place::named(servers, NAMESPACE.to_owned()).await;
    let database_url = place.database_url.clone();
    let mut world = World::at(place).await;
    // Nobody takes the emails yet: they wait in the queue.
    let mut worker = started(&world, &["--mail", "smtp://127.0.0.1:1"]).await;
    let accounts = registered(&world, 30).await;
    let head = world.place.log().await.head().await.unwrap();
    let client = world.place.nats().await;
    let jetstream = jetstream::new(client.clone());
    until("all is planned", async || {
        let tasks = jetstream.get_stream("shop_TASKS").await;
        tasks.is_ok_and(|tasks| tasks.cached_info().state.messages == accounts.len() as u64 + 1)
    })
    .await;

    let paused = Instant::now();
    worker.stop().await;
    world.commands.stop().await;
    let mut backups = Vec::new();
    for stream in STREAMS {
        backups.push((stream, back_up(&client, stream).await));
    }
    world.projector.stop().await;
    world.queries.stop().await;
    drop((worker, client, jetstream));
    let servers = world.into_servers();
    servers.nats.stop().await;

    let folder = temporary_folder().unwrap();
    let config = |node: usize| ServerConfig::within(folder.path().join(format!("nats-{node}"))).unwrap();
    let mut cluster = NatsCluster::start_for((1..=3).map(config).collect(), NAMESPACE).await.unwrap();
    let admin = connect_now(&cluster.url(), "admin").await.unwrap();
    for (stream, backup) in &backups {
        restore(&admin, stream, backup).await;
        until_three_copies(&admin, stream).await;
    }
    let first = cluster.nodes.remove(0);
    let place = Place::with(Arc::new(servers.with_nats(first)), NAMESPACE.into(), database_url);
    let log = place.log().await;
    assert_eq!(log.head().await.unwrap(), head);
    let world = World::at(place).await;
    world.registered("grace").await;
    println!("commands paused for {:?}", paused.elapsed());

    // A node that dies takes nothing with it, and the views go on where they were.
    cluster.nodes[0].kill().await;
    until("a command is taken", async || {
        let eve = json!({"email": "eve@example.org", "username": "eve"});
        world.post("/accounts/register").key("eve").json(&eve).send().await.status == 201
    })
    .await;
    let worker = started(&world, &["--mail", &smtp.url(), "--task-replicas", "3"]).await;
    until("everybody is welcomed", async || smtp.mails().len() >= accounts.len() + 2).await;
    until_idle(&world, &worker).await;
    assert_eq!(log.head().await.unwrap().position, head.position + 2);
    for account in accounts {
        let welcomes = |id: &&str| id.contains(&account.to_string());
        let mails = smtp.mails();
        assert_eq!(mails.iter().map(|mail| mail.header("Message-ID")).filter(welcomes).count(), 1);
    }
    let config: Config =
        jetstream::new(admin).get_stream("shop_LOG").await.unwrap().cached_info().config.clone();
    assert_eq!(config.num_replicas, 3);
    world.verify().await;
}

#[tokio::test]
async fn the_store_of_a_node_that_was_alone_is_kept_out_of_a_cluster() {
    let folder = temporary_folder().unwrap();
    let config = |node: usize| ServerConfig::within(folder.path().join(format!("nats-{node}"))).unwrap();
    let alone = stack::servers::Nats::start(config(1)).await.unwrap();
    let client = connect_now(&alone.url(), "admin").await.unwrap();
    event_log::EventLog::new(client, "shop").ensure().await.unwrap();
    alone.stop().await;
    let error = NatsCluster::start((1..=3).map(config).collect()).await.err().unwrap();
    assert!(error.to_string().contains("docs/operations.md"), "{error:#}");
}
