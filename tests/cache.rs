//! What is read twice comes from memory, and is never older than what the replica has heard.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::json;
use sqlx::Connection;
use stack::servers::temporary_folder;

use crate::{
    harness::{Answer, Place, Servers, World, until},
    instance::Instance,
    standby::Standby,
};

fn cache(answer: &Answer) -> &str {
    answer.header("cache-status")
}

impl World {
    /// Asks until the answer comes from the cache: a view is heard of a moment after the service is ready.
    async fn until_hit(&self, path: &str) -> Answer {
        let mut last = None;
        until("the answer comes from the cache", async || {
            last = Some(self.get(path).send().await);
            last.as_ref().is_some_and(|answer| cache(answer) == "headwater; hit")
        })
        .await;
        last.unwrap()
    }

    /// Makes changes that do not touch the answer until one leaves it in memory, and gives that one's position. On a
    /// machine that is so busy that signals are silent for a second, the answer is rightly read again.
    async fn until_kept(&self, path: &str, mut change: impl AsyncFnMut(usize) -> Answer) -> u64 {
        let (mut changes, mut position) = (0, 0);
        until("the answer stays in memory", async || {
            self.until_hit(path).await;
            let changed = change(changes).await;
            changes += 1;
            position = changed.header("log-position").parse().unwrap();
            let answer = self.get(path).header("Min-Position", position).send().await;
            assert_eq!(answer.header("log-position"), position.to_string());
            cache(&answer) == "headwater; hit"
        })
        .await;
        position
    }
}

#[tokio::test]
async fn an_answer_comes_from_memory_until_its_row_changes_and_reflects_what_was_written_since() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let path = format!("/accounts/{ada}?fields=username");
    world.get(&path).header("Min-Position", 1).send().await;
    // Another row: the same bytes are now known to be true of a later position.
    let register = async |number| {
        let body = json!({"email": format!("bob-{number}@example.org"), "username": format!("bob-{number}")});
        world.post("/accounts/register").json(&body).send().await
    };
    let position = world.until_kept(&path, register).await;
    world.post(&format!("/accounts/{ada}/close")).send().await;
    let changed = world.get(&path).header("Min-Position", position + 1).send().await;
    assert_eq!((cache(&changed), &changed.body), ("headwater; fwd=stale", &json!({"username": null})));
    world.until_hit(&path).await;
}

#[tokio::test]
async fn a_row_that_is_not_there_is_remembered_as_such_until_it_comes() {
    let world = World::start().await;
    let id = uuid::Uuid::now_v7();
    let path = format!("/accounts/{id}?fields=username");
    assert_eq!(world.until_hit(&path).await.problem(), (404, "no-such-row"));
    let register = world.post(&format!("/accounts/{id}/register"));
    let registered = register.json(&json!({"email": "ada@example.org", "username": "ada"})).send().await;
    assert_eq!(registered.status, StatusCode::CREATED);
    let found = world.get(&path).header("Min-Position", 1).send().await;
    assert_eq!(found.body, json!({"username": "ada"}));
}

#[tokio::test]
async fn a_list_is_read_again_only_if_a_row_of_it_changes() {
    let world = World::start().await;
    let (ada, eve) = (world.registered("ada").await, world.registered("eve").await);
    let of = |account| format!("/orders?account_id={account}&sort=-placed_at&limit=20&fields=amount_cents");
    world.placed(ada, 1, "1997-01-01").await;
    world.get(&of(ada)).header("Min-Position", 3).send().await;
    let position = world.until_kept(&of(ada), async |_| world.placed(eve, 2, "1997-01-02").await).await;
    world.placed(ada, 3, "1997-01-03").await;
    let stale = world.get(&of(ada)).header("Min-Position", position + 1).send().await;
    assert_eq!(cache(&stale), "headwater; fwd=stale");
    assert_eq!(stale.body["items"], json!([{"amount_cents": 3}, {"amount_cents": 1}]));
}

#[tokio::test]
async fn who_has_an_answer_already_is_not_sent_it_again_by_any_replica() {
    let world = World::start().await;
    let other = world.place.query_service().await;
    world.until_ready(&other).await;
    let ada = world.registered("ada").await;
    let path = format!("/accounts/{ada}?fields=username");
    let first = world.get(&path).header("Min-Position", 1).send().await;
    let etag = first.header("etag");
    for url in [&world.queries.url, &other.url] {
        let ask = |tag| reqwest::Client::new().get(format!("{url}{path}")).header("If-None-Match", tag);
        let same = ask(etag.to_owned()).header("Min-Position", 1).send().await.unwrap();
        assert_eq!(
            (same.status(), same.headers()["etag"].to_str().unwrap()),
            (StatusCode::NOT_MODIFIED, etag)
        );
        assert_eq!(same.headers()["log-position"], "1");
        assert!(same.bytes().await.unwrap().is_empty());
        assert_eq!(ask("\"0\"".to_owned()).send().await.unwrap().status(), StatusCode::OK);
    }
    world.post(&format!("/accounts/{ada}/close")).send().await;
    let changed = world.get(&path).header("Min-Position", 2).header("If-None-Match", etag).send().await;
    assert_eq!(changed.status, StatusCode::OK);
}

#[tokio::test]
async fn without_room_for_a_cache_everything_is_read_anew() {
    let world = World::start().await;
    let nats = world.place.servers.nats.url_as("query-service");
    let queries = world.place.query_service_with(&nats, &["--cache-mib", "0"]).await;
    world.until_ready(&queries).await;
    for _ in 0..2 {
        let answer = reqwest::get(format!("{}/accounts", queries.url)).await.unwrap();
        assert_eq!(answer.headers()["cache-status"], "headwater; fwd=bypass");
    }
}

/// Holds every read of accounts up, asks all of the paths at once, and counts the statements that wait.
async fn statements_for(world: &World, queries: &Instance, paths: Vec<String>) -> i64 {
    let mut database = world.place.database().await;
    let mut observer = world.place.database().await;
    let mut hold = database.begin().await.unwrap();
    sqlx::query("lock table accounts in access exclusive mode").execute(&mut *hold).await.unwrap();
    let ask = |path| tokio::spawn(reqwest::get(format!("{}{path}", queries.url)));
    let asked: Vec<_> = paths.iter().map(ask).collect();
    let url = format!("{}/metrics", queries.url);
    until("all have arrived", async || {
        let metrics = reqwest::get(&url).await.unwrap().text().await.unwrap();
        metrics.contains(&format!("headwater_queries_in_flight {}", paths.len()))
    })
    .await;
    let count = "select count(*) from pg_stat_activity where datname = current_database() \
                 and application_name = 'headwater query-service' and wait_event_type = 'Lock'";
    let waiting: i64 = sqlx::query_scalar(count).fetch_one(&mut observer).await.unwrap();
    hold.rollback().await.unwrap();
    for answer in futures::future::join_all(asked).await {
        assert!(answer.unwrap().unwrap().status().is_success());
    }
    waiting
}

#[tokio::test]
async fn misses_at_the_same_time_are_read_together() {
    let world = World::start().await;
    let mut ids = vec![];
    for number in 0..40 {
        ids.push(world.registered(&format!("user{number}")).await);
    }
    let log = temporary_folder().unwrap();
    let queries = Instance::query_service(&world.place, log.path().join("log")).await;
    let all = world.get("/accounts?limit=1").header("Min-Position", 40).send().await;
    assert_eq!(all.status, StatusCode::OK);
    let row = |id| format!("/accounts/{id}?fields=username");
    assert!(statements_for(&world, &queries, vec![row(ids[0]); 40]).await <= 1, "one row");
    assert!(
        statements_for(&world, &queries, ids[1..].iter().copied().map(row).collect()).await <= 2,
        "many rows"
    );
    let list = "/accounts?status=active&sort=-created_at&fields=username".to_owned();
    assert!(statements_for(&world, &queries, vec![list; 40]).await <= 1, "one list");
}

#[tokio::test]
async fn a_standby_that_is_behind_is_not_believed_and_serves_when_the_primary_is_gone() {
    let place = Place::new(Arc::new(Servers::start().await)).await;
    let standby = Standby::of(&place.servers.postgres).await;
    let url = standby.url_of(&place);
    let nats = place.servers.nats.url_as("query-service");
    let queries = place.query_service_with(&nats, &["--standby-url", &url]).await;
    let world = World::with(place, queries).await;
    let ada = world.registered("ada").await;
    let path = format!("/accounts/{ada}?fields=status");
    world.get(&path).header("Min-Position", 1).send().await;
    world.until_hit(&path).await;
    standby.pause().await;
    world.post(&format!("/accounts/{ada}/close")).send().await;
    world.get("/accounts").header("Min-Position", 2).send().await;
    // Without any wish of the client: this replica has heard that the row is another now.
    let closed = world.get(&path).send().await;
    assert_eq!((&closed.body, closed.header("log-position")), (&json!({"status": "closed"}), "2"));
    standby.resume().await;
    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    until("the standby has caught up", async || {
        let position = sqlx::query_scalar("select position from checkpoints where view = 'accounts'");
        let position: i64 = position.fetch_one(&mut other).await.unwrap();
        position == 2
    })
    .await;
    world.place.servers.postgres.kill().await;
    let health = format!("{}/health/ready", world.queries.url);
    until("the primary is known to be gone", async || {
        reqwest::get(&health).await.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let path = format!("/accounts/{ada}?fields=status,id");
    until("the standby answers", async || {
        let answer = world.get(&path).send().await;
        answer.status == StatusCode::OK && answer.body["status"] == "closed"
    })
    .await;
    let behind = world.get(&path).header("Min-Position", 3).header("Prefer", "wait=0").send().await;
    assert_eq!(behind.status, StatusCode::SERVICE_UNAVAILABLE);
}
