//! Sends commands over HTTP, and writes down what was sent and answered.

use std::time::{Duration, Instant};

use domain::Command;
use reqwest::{Response, header::CONTENT_TYPE};
use serde_json::Value;
use uuid::Uuid;

use super::{Answer, Answered, Attempt};

/// What a client wants; sent once, it is an [`Attempt`].
#[derive(Clone, Debug)]
pub struct Wish {
    pub aggregate: Uuid,
    pub command: Command,
    pub key: Option<String>,
    pub if_match: Option<u64>,
}

impl Wish {
    pub fn new(aggregate: Uuid, command: Command) -> Self {
        Self { aggregate, command, key: None, if_match: None }
    }

    pub fn keyed(self) -> Self {
        Self { key: Some(Uuid::now_v7().to_string()), ..self }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    http: reqwest::Client,
    start: Instant,
    is_behind_edge: bool,
}

impl Recorder {
    pub fn new() -> Self {
        Self { http: reqwest::Client::new(), start: Instant::now(), is_behind_edge: false }
    }

    /// One that sends with `http`, and through the edge, which sends a command again if it has a key.
    pub fn through_edge(http: reqwest::Client) -> Self {
        Self { http, start: Instant::now(), is_behind_edge: true }
    }

    /// Sends a command to the instance at `url`, once, and waits for an answer so long.
    pub async fn send(&self, url: &str, wish: &Wish, patience: Duration) -> Attempt {
        let Wish { aggregate, command, key, if_match } = wish.clone();
        let (name, fields) = command.encode();
        let id = Uuid::now_v7();
        let url = format!("{url}/{}/{aggregate}/{name}", command.kind().plural());
        let mut request = self.http.post(url).timeout(patience).header("Correlation-Id", id.to_string());
        if let Some(key) = &key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(revision) = if_match {
            request = request.header("If-Match", format!("\"{revision}\""));
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(fields.get().to_owned());
        let sent = self.start.elapsed();
        // What was sent before the last time may have an effect yet.
        let is_sent_again = self.is_behind_edge && key.is_some();
        let answer = answer(request.send().await).await;
        let answer = answer.filter(|answer| !(is_sent_again && *answer == Answer::WithoutEffect));
        let answered = answer.map(|answer| Answered { at: self.start.elapsed(), answer });
        Attempt { id, aggregate, command, key, if_match, sent, answered }
    }
}

/// None if there is no answer, or one that leaves open what came of the command.
async fn answer(response: reqwest::Result<Response>) -> Option<Answer> {
    let response = response.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body: Value = response.json().await.ok()?;
    let is_header =
        |name: &str, value: &Value| headers.get(name).is_some_and(|header| *header == value.to_string());
    match status {
        200 | 201 => assert!(is_header("Log-Position", &body["position"]), "{headers:?}, {body}"),
        503 | 504 => assert!(headers.contains_key("Retry-After"), "{headers:?}, {body}"),
        _ => {}
    }
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let events = || body["events"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    Some(match (status, text("code").as_str()) {
        (200 | 201, _) => Answer::Accepted {
            revision: body["revision"].as_u64().unwrap(),
            events: events().collect(),
            is_created: status == 201,
        },
        (412, _) => Answer::RevisionMismatch { actual: text("accepted").trim_matches('"').parse().unwrap() },
        (422, "idempotency-key-reused") => Answer::KeyReused,
        (404 | 409 | 422, code) => Answer::Rejected(code.to_owned()),
        (503, "no-writer" | "overloaded" | "log-unavailable") => Answer::WithoutEffect,
        (504, _) => return None,
        _ => panic!("{status}: {body}"),
    })
}
