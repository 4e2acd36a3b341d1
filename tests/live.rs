//! Event streams: a row or a list as it is now, and again whenever it changes.

use std::sync::Arc;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Place, Servers, World, until};

/// A client of an event stream.
pub struct Stream {
    response: Response,
    unread: String,
}

#[derive(Debug, Default, PartialEq)]
pub struct Event {
    id: String,
    pub name: String,
    pub data: Value,
    /// Of a heartbeat.
    pub comment: String,
}

impl Stream {
    async fn open(world: &World, path: &str, last_id: Option<&str>) -> Self {
        let request = reqwest::Client::new().get(format!("{}{path}", world.queries.url));
        Self::with(last_id.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id))).await
    }

    pub async fn with(request: reqwest::RequestBuilder) -> Self {
        let response = request.header("Accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: String::new() }
    }

    /// The next event or heartbeat; `None` at the end, which is that of the answer and not of the connection.
    pub async fn any(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let event = read(event);
                self.unread = rest.to_owned();
                return Some(event);
            }
            self.unread.push_str(std::str::from_utf8(&self.response.chunk().await.unwrap()?).unwrap());
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> Event {
        loop {
            let event = self.any().await.expect("the stream goes on");
            if event.comment.is_empty() {
                return event;
            }
        }
    }
}

fn read(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("id", id) => event.id = id.to_owned(),
            ("event", name) => event.name = name.to_owned(),
            ("data", data) => event.data = serde_json::from_str(data).unwrap(),
            ("", comment) => event.comment = comment.to_owned(),
            ("retry", _) => {}
            other => panic!("{other:?}"),
        }
    }
    event
}

#[tokio::test]
async fn a_row_is_sent_as_it_is_and_whenever_it_changes() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let path = format!("/accounts/{ada}?fields=username,status");
    world.get(&path).header("Min-Position", 1).send().await;
    let mut stream = Stream::open(&world, &path, None).await;
    let first = stream.next().await;
    assert_eq!(
        (first.name.as_str(), &first.data),
        ("state", &json!({"username": "ada", "status": "active"}))
    );
    // Nothing that this row is made of.
    world.registered("bob").await;
    world.post(&format!("/accounts/{ada}/close")).send().await;
    let second = stream.next().await;
    assert_eq!(second.data, json!({"username": null, "status": "closed"}));
    assert!(second.id.starts_with("3-"), "{second:?}");
}

#[tokio::test]
async fn a_list_is_sent_whole_whenever_a_row_enters_it() {
    let world = World::start().await;
    let path = "/accounts?status=active&sort=-created_at&fields=username";
    let mut stream = Stream::open(&world, path, None).await;
    assert_eq!(stream.next().await.data["items"], json!([]));
    world.registered("ada").await;
    assert_eq!(stream.next().await.data["items"], json!([{"username": "ada"}]));
}

#[tokio::test]
async fn a_row_that_is_not_there_is_said_to_be_gone_until_it_comes() {
    let world = World::start().await;
    let id = uuid::Uuid::now_v7();
    let mut stream = Stream::open(&world, &format!("/accounts/{id}?fields=username"), None).await;
    assert_eq!(stream.next().await.name, "gone");
    let register = world.post(&format!("/accounts/{id}/register"));
    register.json(&json!({"email": "ada@example.org", "username": "ada"})).send().await;
    assert_eq!(stream.next().await.data, json!({"username": "ada"}));
}

#[tokio::test]
async fn who_comes_back_is_sent_only_what_is_new() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let path = format!("/accounts/{ada}?fields=status");
    world.get(&path).header("Min-Position", 1).send().await;
    let seen = Stream::open(&world, &path, None).await.next().await;
    let mut again = Stream::open(&world, &path, Some(&seen.id)).await;
    world.post(&format!("/accounts/{ada}/close")).send().await;
    assert_eq!(again.next().await.data, json!({"status": "closed"}));
    let mut late = Stream::open(&world, &path, Some(&seen.id)).await;
    assert_eq!(late.next().await.data, json!({"status": "closed"}));
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_is_alive() {
    let world = World::start().await;
    let mut stream = Stream::open(&world, "/accounts?fields=id", None).await;
    stream.next().await;
    let heartbeat = stream.any().await.unwrap();
    assert!(heartbeat.comment.starts_with("position "), "{heartbeat:?}");
}

#[tokio::test]
async fn who_reads_late_gets_the_last_state_and_not_all_that_were() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let path = format!("/customers/{ada}?fields=orders");
    let mut stream = Stream::open(&world, &path, None).await;
    let mut last = 0;
    for cents in 0..200 {
        last = world.placed(ada, cents, "1997-01-01").await.body["position"].as_u64().unwrap();
    }
    world.get(&path).header("Min-Position", last).send().await;
    let mut events = 0;
    while stream.next().await.data["orders"] != json!(200) {
        events += 1;
    }
    assert!(events < 100, "{events} states");
}

#[tokio::test]
async fn a_stream_goes_on_without_signals_and_ends_with_the_service() {
    let mut world = World::at(Place::new(Arc::new(Servers::start().await)).await).await;
    let ada = world.registered("ada").await;
    let path = format!("/accounts/{ada}?fields=status");
    world.get(&path).header("Min-Position", 1).send().await;
    let mut stream = Stream::open(&world, &path, None).await;
    stream.next().await;
    world.place.servers.nats.kill().await;
    let mut database = world.place.database().await;
    sqlx::query("update accounts set status = 'closed'").execute(&mut database).await.unwrap();
    sqlx::query("update checkpoints set position = 2").execute(&mut database).await.unwrap();
    assert_eq!(stream.next().await.data, json!({"status": "closed"}));
    world.queries.stop().await;
    while stream.any().await.is_some() {}
}

#[tokio::test]
async fn more_streams_than_there_is_room_for_are_refused() {
    let world = World::start().await;
    let mut queries = world
        .place
        .query_service_with(&world.place.servers.nats.url_as("query-service"), &["--max-live", "1"])
        .await;
    let open = || {
        let request = reqwest::Client::new().get(format!("{}/accounts", queries.url));
        request.header("Accept", "text/event-stream").send()
    };
    let mut statuses = vec![];
    until("the catalog is there", async || {
        statuses.push(open().await.unwrap());
        statuses.last().unwrap().status() == StatusCode::OK
    })
    .await;
    assert_eq!(open().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    statuses.clear();
    until("the place is free again", async || open().await.unwrap().status() == StatusCode::OK).await;
    queries.stop().await;
}
