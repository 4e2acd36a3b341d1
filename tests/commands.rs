//! Commands, their answers, and what is in the log afterwards.

use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use uuid::Uuid;

use crate::harness::World;

#[tokio::test]
async fn what_was_written_is_read_back_at_once_and_nothing_more_than_was_asked_for() {
    let world = World::start().await;
    let id = Uuid::now_v7();
    let registered = world
        .post(&format!("/accounts/{id}/register"))
        .json(&json!({"email": "Ada@Example.org", "username": "Ada", "name": "Ada Lovelace"}))
        .send()
        .await;
    assert_eq!(registered.status, StatusCode::CREATED);
    assert_eq!(
        registered.body,
        json!({"id": id, "revision": 1, "position": 1, "events": ["account.registered"]})
    );
    assert_eq!((registered.header("etag"), registered.header("log-position")), ("\"1\"", "1"));
    assert_eq!(registered.header("location"), format!("/accounts/{id}"));

    let read = world
        .get(&format!("/accounts/{id}?fields=email,username"))
        .header("Min-Position", registered.header("log-position"))
        .send()
        .await;
    assert_eq!(read.text, r#"{"email":"ada@example.org","username":"ada"}"#);
    assert_eq!(world.event_types().await, ["account.registered"]);
}

#[tokio::test]
async fn of_two_who_register_one_email_at_once_one_gets_it() {
    let world = World::start().await;
    for round in 0..20 {
        let register = |name: &str| {
            let body =
                json!({"email": format!("same{round}@example.org"), "username": format!("{name}{round}")});
            world.post("/accounts/register").json(&body).send()
        };
        let (a, b) = tokio::join!(register("ada"), register("bob"));
        let (winner, loser) = if a.status == StatusCode::CREATED { (a, b) } else { (b, a) };
        assert_eq!(winner.status, StatusCode::CREATED);
        assert_eq!(loser.problem(), (409, "email-taken"));
    }
    assert_eq!(world.event_types().await.len(), 20);
}

#[tokio::test]
async fn one_idempotency_key_has_one_effect_and_one_answer() {
    let world = World::start().await;
    let body = json!({"email": "ada@example.org", "username": "ada"});
    let register = || world.post("/accounts/register").key("k1").json(&body).send();
    let answers = join_all((0..10).map(|_| register())).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (StatusCode::CREATED, &answers[0].body));
    }
    assert_eq!(world.event_types().await, ["account.registered"]);

    let other = world
        .post("/accounts/register")
        .key("k1")
        .json(&json!({"email": "b@example.org", "username": "ada"}));
    assert_eq!(other.send().await.problem(), (422, "idempotency-key-reused"));
}

#[tokio::test]
async fn keys_and_claims_outlive_the_service() {
    let mut world = World::start().await;
    let body = json!({"email": "ada@example.org", "username": "ada"});
    let first = world.post("/accounts/register").key("k1").json(&body).send().await;

    world.commands.crash().await;
    world.commands = world.place.command_service().await;
    world.until_ready(&world.commands).await;

    let repeat = world.post("/accounts/register").key("k1").json(&body).send().await;
    assert_eq!((repeat.status, repeat.body), (first.status, first.body));
    let taken =
        world.post("/accounts/register").json(&json!({"email": "ADA@example.org", "username": "eve"}));
    assert_eq!(taken.send().await.problem(), (409, "email-taken"));
    assert_eq!(world.event_types().await, ["account.registered"]);
}

#[tokio::test]
async fn what_an_account_gives_up_another_may_take() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let change =
        world.post(&format!("/accounts/{ada}/change-email")).json(&json!({"email": "lovelace@example.org"}));
    assert_eq!(change.send().await.status, StatusCode::OK);
    let close = world.post(&format!("/accounts/{ada}/close")).send().await;
    assert_eq!(close.body["events"], json!(["account.closed"]));
    for email in ["ada@example.org", "lovelace@example.org"] {
        let username = email.split('@').next().unwrap();
        let again = world.post("/accounts/register").json(&json!({"email": email, "username": username}));
        assert_eq!(again.send().await.status, StatusCode::CREATED, "{email}");
    }
    world.verify().await;
}

#[tokio::test]
async fn an_order_needs_an_active_account() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let place = |account: Uuid| {
        let body = json!({"account_id": account, "quantity": 1, "amount_cents": 2933, "currency": "USD"});
        world.post("/orders/place").json(&body).send()
    };
    assert_eq!(place(Uuid::now_v7()).await.problem(), (422, "account-not-active"));
    assert_eq!(place(ada).await.status, StatusCode::CREATED);
    assert_eq!(world.post(&format!("/accounts/{ada}/close")).send().await.status, StatusCode::OK);
    assert_eq!(place(ada).await.problem(), (422, "account-not-active"));
    assert_eq!(world.event_types().await, ["account.registered", "order.placed", "account.closed"]);
}

#[tokio::test]
async fn if_match_refuses_what_was_decided_on_an_old_revision() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let rename = |revision: u64, name: &str| {
        let call =
            world.post(&format!("/accounts/{ada}/rename")).header("If-Match", format!("\"{revision}\""));
        call.json(&json!({"name": name})).send()
    };
    let renamed = rename(1, "Ada").await;
    assert_eq!((renamed.status, renamed.header("etag")), (StatusCode::OK, "\"2\""));
    let stale = rename(1, "Eve").await;
    assert_eq!(stale.problem(), (412, "revision-mismatch"));
    assert_eq!(stale.body["accepted"], "\"2\"");
}

#[tokio::test]
async fn a_command_that_changes_nothing_succeeds_without_an_event() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let same =
        world.post(&format!("/accounts/{ada}/change-email")).json(&json!({"email": "ada@example.org"}));
    let same = same.send().await;
    assert_eq!(
        (same.status, &same.body["events"], &same.body["revision"]),
        (StatusCode::OK, &json!([]), &json!(1))
    );
    assert_eq!(world.event_types().await, ["account.registered"]);
}

#[tokio::test]
async fn many_commands_at_once_make_dense_positions_and_unbroken_chains() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let place =
        async |index: i64| world.placed(ada, index, "1997-01-01").await.body["position"].as_u64().unwrap();
    let mut positions = join_all((0..300).map(place)).await;
    positions.sort_unstable();
    assert_eq!(positions, (2..=301).collect::<Vec<u64>>());
    world.verify().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_changes_nothing_about_the_effect() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    for index in 0..50 {
        let place =
            tokio::time::timeout(Duration::from_micros(index * 40), world.placed(ada, 100, "1997-01-01"));
        let _ = place.await;
    }
    world.placed(ada, 100, "1997-01-01").await;
    world.verify().await;
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_does_not_keep_the_service_from_leaving() {
    let mut world = World::start().await;
    let address = world.commands.url.strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"POST /accounts/register HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        .await
        .unwrap();
    // An answer to somebody else shows that the service has had time to read it.
    world.registered("ada").await;
    tokio::time::timeout(Duration::from_secs(10), world.commands.stop()).await.unwrap();
}
