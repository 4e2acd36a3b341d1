//! What clients are answered through the edge, and by the edge itself.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::site::{EU, Site};
use crate::{
    harness::{Answer, Call},
    wire::Wire,
};

fn call(site: &Site, method: Method, path: &str) -> Call {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Call::new(http.request(method, format!("{}{path}", site.edge.url())))
}

async fn get(site: &Site, path: &str) -> Answer {
    call(site, Method::GET, path).send().await
}

async fn post(site: &Site, path: &str, body: impl Into<String>) -> Answer {
    let call = call(site, Method::POST, path).header("content-type", "application/json");
    call.body(body.into()).send().await
}

fn registration(name: &str) -> String {
    json!({"email": format!("{name}@example.org"), "username": name}).to_string()
}

#[tokio::test]
async fn addresses_in_answers_lead_on_behind_the_edge() {
    let site = Site::start(1, &[EU]).await;
    let created = post(&site, "/commands/accounts/register", registration("ada")).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let (place, position) = (created.header("location"), created.header("log-position"));
    let row = call(&site, Method::GET, place).header("Min-Position", position).send().await;
    assert_eq!(row.body["username"], "ada", "{row:?}");

    let other = post(&site, "/commands/accounts/register", registration("bob")).await;
    let page = call(&site, Method::GET, "/queries/accounts?limit=1");
    let page = page.header("Min-Position", other.header("log-position")).send().await;
    let next = page.header("link").strip_prefix('<').unwrap().split('>').next().unwrap();
    let rest = get(&site, &format!("/queries/accounts{next}")).await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1, "{rest:?}");

    let taken = post(&site, "/commands/accounts/register", registration("ada")).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    let about = get(&site, taken.body["type"].as_str().unwrap()).await;
    assert!(about.text.starts_with("# "), "{about:?}");

    for side in ["commands", "queries"] {
        let moved = get(&site, &format!("/{side}/docs")).await;
        assert_eq!(moved.header("location"), "docs/");
        assert_eq!(get(&site, &format!("/{side}/docs/")).await.status, StatusCode::OK);
        let document = get(&site, &format!("/{side}/openapi.json")).await;
        assert_eq!(document.body["servers"][0]["url"], ".");
    }
}

#[tokio::test]
async fn a_command_is_bounded_and_an_import_is_not() {
    let site = Site::start(1, &[EU]).await;
    let large = "x".repeat(65 << 10);
    assert_eq!(post(&site, "/commands/accounts/register", large).await.problem(), (413, "body-too-large"));

    let line = |number: usize| {
        let data = json!({"email": format!("{number}@example.org"), "username": format!("name-{number}")});
        json!({"aggregate": "accounts", "command": "register", "data": data}).to_string() + "\n"
    };
    let lines: String = (0..2_000).map(line).collect();
    assert!(lines.len() > 100 << 10);
    let import =
        call(&site, Method::POST, "/commands/commands").header("content-type", "application/x-ndjson");
    let answer = import.body(lines).send().await;
    assert!(answer.text.ends_with("{\"done\":true,\"commands\":2000,\"accepted\":2000,\"failed\":0}\n"));
}

/// Nobody may be told that nothing was done who has sent a command that may have arrived.
#[tokio::test]
async fn a_command_whose_connection_breaks_may_have_had_its_effect() {
    let site = Site::start(1, &[EU]).await;
    let service = &site.commands[0].instance;
    let wire = Wire::to(&service.url).await;
    let edge = site.edge_over(&wire).await;
    let call = Call::new(reqwest::Client::new().post(format!("{}/commands/accounts/register", edge.url())));
    let call = call.header("content-type", "application/json").body(registration("ada"));
    service.pause();
    let breaking = async {
        // The command waits at the service by then, whose health checks have not failed yet.
        tokio::time::sleep(Duration::from_millis(300)).await;
        wire.cut();
    };
    let (answer, ()) = tokio::join!(call.send(), breaking);
    service.resume();
    assert_eq!(answer.problem(), (504, "outcome-unknown"));
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn what_is_for_operators_is_not_for_clients() {
    let site = Site::start(1, &[EU]).await;
    for path in [
        "/queries/metrics",
        "/commands/metrics",
        "/queries/version",
        "/queries/health/ready",
        "/commands/health/writer",
    ] {
        assert_eq!(get(&site, path).await.problem(), (404, "unknown-route"), "{path}");
    }
    assert_eq!(get(&site, "/accounts").await.problem(), (404, "unknown-route"));
    assert_eq!(get(&site, "/health/live").await.text, "live\n");
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_back() {
    let site = Site::start_with(1, &[EU], |config| config.requests_per_second_of_one = 5).await;
    let mut refused = None;
    for _ in 0..50 {
        let answer = get(&site, "/queries/").await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
        }
    }
    let refused = refused.unwrap();
    assert_eq!((refused.problem(), refused.header("retry-after")), ((429, "rate-limited"), "1"));
}

#[tokio::test]
async fn ids_of_requests_and_traces_pass_through() {
    let site = Site::start(1, &[EU]).await;
    let answer = call(&site, Method::GET, "/queries/").header("x-request-id", "mine").send().await;
    assert_eq!(answer.header("x-request-id"), "mine");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let command = call(&site, Method::POST, "/commands/accounts/register").header("traceparent", trace);
    let command = command.header("content-type", "application/json").body(registration("ada")).send().await;
    assert_eq!(command.status, StatusCode::CREATED, "{command:?}");
    let frames = site.place.log().await.follow(Default::default()).available().await.unwrap();
    let event = frames.into_iter().flat_map(|frame| frame.events).next().unwrap();
    assert_eq!(event.traceparent.as_deref(), Some(trace));
}

#[tokio::test]
async fn an_event_stream_passes_as_it_comes() {
    let site = Site::start(1, &[EU]).await;
    let created = post(&site, "/commands/accounts/register", registration("ada")).await;
    let account = created.header("location").strip_prefix("/queries").unwrap();
    let stream = reqwest::Client::new().get(format!("{}/queries{account}", site.edge.url()));
    let stream = stream.header("accept", "text/event-stream");
    let stream = stream.header("min-position", created.header("log-position"));
    let mut stream = stream.send().await.unwrap();
    let mut heard = String::new();
    until_heard(&mut stream, &mut heard, r#""username":"ada""#).await;
    let renamed = json!({"username": "lovelace"}).to_string();
    let renamed = post(&site, &format!("/commands{account}/change-username"), renamed).await;
    assert_eq!(renamed.status, StatusCode::OK, "{renamed:?}");
    until_heard(&mut stream, &mut heard, r#""username":"lovelace""#).await;
}

async fn until_heard(stream: &mut reqwest::Response, heard: &mut String, text: &str) {
    while !heard.contains(text) {
        let chunk = timeout(Duration::from_secs(30), stream.chunk()).await.unwrap().unwrap();
        *heard += &String::from_utf8_lossy(&chunk.unwrap());
    }
}

/// RFC 9113 §3.3: a client that knows that the server speaks HTTP/2 begins with its preface.
#[tokio::test]
async fn clients_may_speak_http_2() {
    let site = Site::start(1, &[EU]).await;
    let address = site.edge.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let no_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&no_settings).await.unwrap();
    let mut head = [0; 9];
    timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await.unwrap().unwrap();
    let settings = 4;
    assert_eq!(head[3], settings);
}
