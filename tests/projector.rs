//! The projector: exactly once, whatever ends it, and never on another log.

use async_nats::jetstream;
use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::harness::{Place, Servers, World, until};

#[tokio::test]
async fn views_equal_the_fold_of_the_log_however_often_the_projector_crashes() {
    let mut world = World::start().await;
    let ada = world.registered("ada").await;
    for round in 0..8 {
        for cents in 0..60 {
            let order = world.placed(ada, cents, "1997-01-01").await;
            if cents % 10 == 0 {
                let id = order.body["id"].as_str().unwrap();
                let cancel = world.post(&format!("/orders/{id}/cancel")).json(&json!({"reason": "late"}));
                assert_eq!(cancel.send().await.status, StatusCode::OK);
            }
            // Somewhere within a batch, each time elsewhere.
            if cents == 7 * round {
                world.projector.crash().await;
                world.projector = world.place.projector().await;
            }
        }
    }
    world.verify().await;
    let customer = world.get(&format!("/customers/{ada}?fields=orders,spent_cents")).send().await;
    let sum: i64 = (0..60).filter(|cents| cents % 10 != 0).sum();
    assert_eq!(customer.body, json!({"orders": 8 * 54, "spent_cents": 8 * sum}));
}

#[tokio::test]
async fn each_commit_is_signalled_with_what_it_touched() {
    let world = World::start().await;
    let nats = world.place.nats().await;
    let mut signals = nats.subscribe(format!("{}.signals.accounts", world.place.namespace)).await.unwrap();
    nats.flush().await.unwrap();
    let ada = world.registered("ada").await;
    let close = world.post(&format!("/accounts/{ada}/close")).send().await;
    assert_eq!(close.status, StatusCode::OK);

    let mut changes = Vec::new();
    let mut position = 0;
    while position < 2 {
        let signal: Value = serde_json::from_slice(&signals.next().await.unwrap().payload).unwrap();
        assert!(
            signal["reset"] == json!(true) || signal["previous"].as_u64().unwrap() >= position,
            "{signal}"
        );
        position = signal["position"].as_u64().unwrap();
        changes.extend(signal["changes"].as_array().cloned().unwrap_or_default());
    }
    let last = changes.last().unwrap();
    assert_eq!(last["key"], json!(ada));
    assert_eq!((&last["new"]["status"], &last["new"]["email"]), (&json!("closed"), &Value::Null));
    let registered = changes.iter().any(|change| change["old"]["email"] == "ada@example.org")
        || changes.len() == 1 && last["old"].is_null();
    assert!(registered, "{changes:?}");
}

#[tokio::test]
async fn a_signal_tells_what_indexes_find_rows_by_but_not_what_they_merely_include() {
    let place = Place::new(Servers::shared().await).await;
    let mut database = place.database().await;
    for index in [
        "drop index accounts_by_email",
        "create index on accounts (created_at, id) include (name, region) where revision = 1",
        "create index on accounts (lower(email), id)",
    ] {
        sqlx::query(index).execute(&mut database).await.unwrap();
    }
    let world = World::at(place).await;
    let nats = world.place.nats().await;
    let mut signals = nats.subscribe(format!("{}.signals.accounts", world.place.namespace)).await.unwrap();
    nats.flush().await.unwrap();
    world.registered("ada").await;
    let told = loop {
        let signal: Value = serde_json::from_slice(&signals.next().await.unwrap().payload).unwrap();
        if let Some(row) = signal["changes"][0]["new"].as_object() {
            break row.keys().cloned().collect::<Vec<_>>();
        }
    };
    assert_eq!(told, ["created_at", "email", "revision", "status", "username"]);
}

#[tokio::test]
async fn a_log_that_was_replaced_stops_the_projector_and_is_named() {
    let mut world = World::start().await;
    world.registered("ada").await;
    world.registered("bob").await;
    world.verify().await;
    world.projector.stop().await;
    let jetstream = jetstream::new(world.place.nats().await);
    jetstream.delete_stream(format!("{}_LOG", world.place.namespace)).await.unwrap();
    world.commands.crash().await;
    world.commands = world.place.command_service().await;
    world.until_ready(&world.commands).await;
    world.registered("eve").await;

    world.projector = world.place.projector().await;
    let health = format!("{}/health/ready", world.projector.url);
    until("the projector says that the log was replaced", async || {
        let answer = reqwest::get(&health).await.unwrap();
        answer.status() == 503 && answer.text().await.unwrap().contains("replaced")
    })
    .await;
    // What was folded from the old log is left as it is.
    let accounts = world.get("/accounts?fields=username").send().await;
    assert_eq!(accounts.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_database_restored_under_a_running_projector_is_folded_again() {
    let world = World::start().await;
    world.registered("ada").await;
    world.verify().await;
    let mut database = world.place.database().await;
    let mut restore = database.begin().await.unwrap();
    for statement in [
        "delete from accounts",
        "update checkpoints set position = 0, frame_sequence = 0, frame_id = null where view = 'accounts'",
    ] {
        sqlx::query(statement).execute(&mut *restore).await.unwrap();
    }
    restore.commit().await.unwrap();
    // The projector believes to be further; its next commit must not stand.
    world.registered("bob").await;
    world.verify().await;
    let accounts = world.get("/accounts?fields=username").send().await;
    assert_eq!(accounts.body["items"].as_array().unwrap().len(), 2);
}
