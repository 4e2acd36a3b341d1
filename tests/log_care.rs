//! Copies of the log: reading from a mirror, restoring from a mirror and from a copy of the server's folder, and
//! what a view does that is ahead of the log it gets back.

use std::{fs, path::Path, process::Command, sync::Arc};

use async_nats::jetstream::{self, Context, stream::Config};
use projector::{Manager, Settings, UnknownEvents, Verify, Which};
use stack::servers::temporary_folder;

use crate::harness::{Place, Servers, World, until, verify};

/// A stream as `nats/streams` defines it.
fn definition(text: &str, namespace: &str) -> Config {
    serde_json::from_str(&text.replace("{namespace}", namespace)).unwrap()
}

const LOG: &str = include_str!("../nats/streams/log.json");
const MIRROR: &str = include_str!("../nats/streams/log-mirror.json");

async fn until_caught_up(jetstream: &Context, stream: &str, sequence: u64) {
    until("the copy has caught up", async || {
        let stream = jetstream.get_stream(stream).await.unwrap();
        stream.cached_info().state.last_sequence >= sequence
    })
    .await;
}

#[tokio::test]
async fn a_mirror_is_read_as_the_log_itself_and_a_lost_log_is_restored_from_it() {
    let world = World::start().await;
    let place = &world.place;
    let ada = world.registered("ada").await;
    let jetstream = jetstream::new(place.nats().await);
    let mirror = definition(MIRROR, &place.namespace);
    jetstream.create_stream(mirror.clone()).await.unwrap();
    world.placed(ada, 100, "2026-01-01").await;
    let head = place.log().await.head().await.unwrap();
    until_caught_up(&jetstream, &mirror.name, head.sequence).await;

    let log = place.log().await.read_from(&mirror.name);
    assert_eq!(log.head().await.unwrap(), head);
    let findings = replay::check(&log, |_| ()).await.unwrap();
    assert!(findings.is_clean() && findings.events == 2, "{findings:?}");
    assert!(replay::verify(&log, &place.database_url, |_| ()).await.unwrap().is_clean());

    // The log is lost. The mirror becomes a stream of its own, the log a mirror of it, and then the log again.
    let definition = definition(LOG, &place.namespace);
    jetstream.delete_stream(&definition.name).await.unwrap();
    jetstream.update_stream(Config { mirror: None, ..mirror.clone() }).await.unwrap();
    let copy = Config { name: definition.name.clone(), mirror: Some(source(&mirror.name)), ..mirror };
    jetstream.create_stream(copy).await.unwrap();
    until_caught_up(&jetstream, &definition.name, head.sequence).await;
    jetstream.update_stream(definition).await.unwrap();

    until("commands flow", async || {
        let body = serde_json::json!({"name": "Ada"});
        world.post(&format!("/accounts/{ada}/rename")).json(&body).send().await.status.is_success()
    })
    .await;
    world.verify().await;
    assert_eq!(world.event_types().await.len(), 3);
}

fn source(stream: &str) -> jetstream::stream::Source {
    jetstream::stream::Source { name: stream.to_owned(), ..Default::default() }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Stops the services, and gives the servers to be changed.
async fn without_services(mut world: World) -> (Servers, String, String) {
    for service in [&mut world.commands, &mut world.queries, &mut world.projector] {
        service.stop().await;
    }
    let Place { servers, namespace, database_url, .. } = world.place;
    (Arc::into_inner(servers).unwrap(), namespace, database_url)
}

#[tokio::test]
async fn a_copy_of_the_stopped_servers_folder_is_a_backup_and_a_view_that_is_ahead_of_it_stops() {
    let world = World::at(Place::new(Arc::new(Servers::start().await)).await).await;
    world.registered("ada").await;
    world.verify().await;

    let (mut servers, namespace, database_url) = without_services(world).await;
    let (streams, backup) = (servers.streams(), temporary_folder().unwrap());
    servers.nats.kill().await;
    copy(&streams, backup.path());
    servers.nats.restart().await.unwrap();
    let world = World::at(Place::with(Arc::new(servers), namespace, database_url)).await;
    world.registered("bob").await;
    world.verify().await;

    let (mut servers, namespace, database_url) = without_services(world).await;
    servers.nats.kill().await;
    fs::remove_dir_all(&streams).unwrap();
    copy(&backup.path().join("jetstream"), streams.parent().unwrap());
    servers.nats.restart().await.unwrap();
    let place = Place::with(Arc::new(servers), namespace, database_url);
    let log = place.log().await;
    assert_eq!(log.head().await.unwrap().position, 1);
    assert!(replay::check(&log, |_| ()).await.unwrap().is_clean());

    // Commands are decided on what the log has, from the start on; the views wait for somebody to decide.
    let (commands, projector) = (place.command_service().await, place.projector().await);
    let http = reqwest::Client::new();
    until("commands flow", async || {
        let body = serde_json::json!({"email": "bob@example.org", "username": "bob"});
        let answer = http.post(format!("{}/accounts/register", commands.url)).json(&body).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    until("the projector says what is wrong", async || {
        let answer = http.get(format!("{}/health/ready", projector.url)).send().await.unwrap();
        answer.text().await.unwrap().contains("replaced or lost its end")
    })
    .await;

    // The way out of docs/operations.md.
    let manager = Manager::new(&place.database_url_as("projector"), domain::views::ALL).unwrap();
    for view in domain::views::ALL {
        let settings = Settings {
            which: Which::New,
            unknown_events: UnknownEvents::Quarantine,
            verify: Verify::Full,
            accept_quarantine: false,
            replaced_log: true,
            bytes_max: projector::REBUILD_BYTES_MAX,
        };
        manager.rebuild(&log, view.name, settings, &|_| ()).await.unwrap();
    }
    verify(&place).await;
    drop((commands, projector));
}

#[test]
fn the_way_out_is_in_the_book() {
    let book = include_str!("../docs/operations.md");
    assert!(book.contains("projector rebuild --all --replaced-log"));
}
