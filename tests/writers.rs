//! More than one command-service: only who is the writer may append, or answer from its state.

use std::{fs, time::Duration};

use event_log::{Encoded, Head, NewFrame};
use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use uuid::Uuid;

use crate::harness::{Place, Servers, Service, World, until};

/// Sends a command to one service, again while it says that it is not the writer.
async fn send(service: &Service, path: &str, key: Uuid, body: &Value) -> reqwest::Response {
    let http = reqwest::Client::new();
    loop {
        let request = http.post(format!("{}{path}", service.url)).header("Idempotency-Key", key.to_string());
        let answer = request.json(body).send().await.unwrap();
        if !matches!(answer.status().as_u16(), 503 | 504) {
            return answer;
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_overtaken_answers_nothing_from_its_old_state() {
    let world = World::start().await;
    world.registered("ada").await;
    let second = world.place.command_service().await;
    world.until_ready(&second).await;
    for round in 0..5 {
        let (new, old) = if round % 2 == 0 { (&second, &world.commands) } else { (&world.commands, &second) };
        let id = Uuid::now_v7();
        let body = json!({"email": format!("{id}@example.org"), "username": id.simple().to_string()});
        let registered = send(new, &format!("/accounts/{id}/register"), Uuid::now_v7(), &body).await;
        assert_eq!(registered.status(), StatusCode::CREATED);
        // To the other one's knowledge, there is no such account.
        let closed = send(old, &format!("/accounts/{id}/close"), Uuid::now_v7(), &json!({})).await;
        assert_eq!(closed.status(), StatusCode::OK, "{}", closed.text().await.unwrap());
    }
    world.verify().await;
}

#[tokio::test]
async fn two_that_both_want_to_write_lose_and_repeat_nothing() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let second = world.place.command_service().await;
    until("the second one has written", async || {
        let answer =
            send(&second, &format!("/accounts/{ada}/rename"), Uuid::now_v7(), &json!({"name": "Ada"})).await;
        answer.status() == StatusCode::OK
    })
    .await;
    let before = world.event_types().await.len();
    let place = async |index: usize| {
        let service = if index.is_multiple_of(2) { &world.commands } else { &second };
        let body = json!({"account_id": ada, "quantity": 1, "amount_cents": 100, "currency": "USD"});
        for order in 0..10 {
            let path = format!("/orders/{}/place", Uuid::new_v5(&ada, format!("{index}/{order}").as_bytes()));
            assert_eq!(send(service, &path, Uuid::now_v7(), &body).await.status(), StatusCode::CREATED);
        }
    };
    join_all((0..4).map(place)).await;
    assert_eq!(world.event_types().await.len() - before, 40);
    world.verify().await;
}

#[tokio::test]
async fn time_never_goes_back_in_the_log_though_the_clock_does() {
    let place = Place::new(Servers::shared().await).await;
    let log = place.log().await;
    log.ensure().await.unwrap();
    // Written by somebody whose clock is far ahead of ours.
    let mut events = Encoded::default();
    let event = json!({"specversion": "1.0", "id": "1", "source": "/test", "type": "account.registered",
        "subject": Uuid::now_v7(), "time": "2090-01-01T00:00:00Z", "datacontenttype": "application/json",
        "dataschema": "urn:headwater:account.registered:1", "position": "1", "previous": "0",
        "data": {"email": "ada@example.org", "username": "ada"}});
    events.push(&serde_json::from_str(&event.to_string()).unwrap());
    log.append(&NewFrame::new(Head::default(), 1, events), Head::default()).await.unwrap();

    let world = World::at(place).await;
    let bob = world.registered("bob").await;
    let read =
        world.get(&format!("/accounts/{bob}?fields=created_at")).header("Min-Position", 2).send().await;
    assert!(read.body["created_at"].as_str().unwrap().starts_with("2090-01-01T00:00:00"), "{}", read.text);
    world.verify().await;
}

#[tokio::test]
async fn an_event_that_this_version_does_not_know_stops_the_writer_and_leaves_its_state_alone() {
    let place = Place::new(Servers::shared().await).await;
    let log = place.log().await;
    log.ensure().await.unwrap();
    // Written by a newer version.
    let mut events = Encoded::default();
    let event = json!({"specversion": "1.0", "id": "1", "source": "/test", "type": "account.promoted",
        "subject": Uuid::now_v7(), "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
        "dataschema": "urn:headwater:account.promoted:1", "position": "1", "previous": "0", "data": {}});
    events.push(&serde_json::from_str(&event.to_string()).unwrap());
    log.append(&NewFrame::new(Head::default(), 1, events), Head::default()).await.unwrap();

    let folder = temporary_folder().unwrap();
    let service = place.command_service_in(folder.path()).await;
    let state = folder.path().join(&place.namespace).join("database");
    let made = || fs::metadata(&state).and_then(|state| state.created()).ok();
    until("the store is there", async || made().is_some()).await;
    let before = made();
    until("the service says what is wrong", async || {
        let answer = reqwest::get(format!("{}/health/ready", service.url)).await.unwrap();
        answer.text().await.unwrap().contains("event 1 cannot be read: unknown event type `account.promoted`")
    })
    .await;
    // It tries again in between.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(made(), before);
}
