//! What an instance that does not write answers is what the writer answers, and a key means the same to both.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    harness::{Place, Servers},
    instance::{Instance, writer},
};

struct Pair {
    place: Place,
    /// The writer first.
    instances: Vec<Instance>,
    _folder: TempDir,
}

/// What a client sees of an answer.
#[derive(Debug, PartialEq)]
struct Seen {
    status: StatusCode,
    headers: BTreeSet<String>,
    body: Value,
}

impl Pair {
    async fn start() -> Self {
        let namespace = format!("t{}", Uuid::now_v7().simple());
        let place = Place::with(Servers::shared().await, namespace, String::new());
        let folder = temporary_folder().unwrap();
        let mut instances = Vec::new();
        for name in ["a", "b"] {
            instances.push(Instance::start(&place, &folder.path().join(name)).await);
        }
        let first = writer(&instances).await;
        instances.swap(0, first);
        Self { place, instances, _folder: folder }
    }

    async fn send(&self, instance: usize, path: &str, headers: &[(&str, &str)], body: &Value) -> Seen {
        let mut request = reqwest::Client::new().post(format!("{}{path}", self.instances[instance].url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.json(body).send().await.unwrap();
        let headers = answer.headers().keys().map(|name| name.to_string()).collect();
        Seen { status: answer.status(), headers, body: answer.json().await.unwrap() }
    }

    async fn events(&self) -> u64 {
        self.place.log().await.head().await.unwrap().position
    }
}

fn register(name: &str) -> Value {
    json!({"email": format!("{name}@example.org"), "username": name})
}

#[tokio::test]
async fn a_forwarded_command_is_answered_as_by_the_writer() {
    let pair = Pair::start().await;
    let (ada, nobody) = (Uuid::now_v7(), Uuid::now_v7());
    let path = |id: Uuid, command: &str| format!("/accounts/{id}/{command}");
    let registered =
        pair.send(0, &path(ada, "register"), &[("Idempotency-Key", "k")], &register("ada")).await;
    assert_eq!(registered.status, StatusCode::CREATED);
    let cases = [
        (path(ada, "register"), vec![("Idempotency-Key", "k")], register("ada"), 201),
        (path(ada, "register"), vec![("Idempotency-Key", "k")], register("eve"), 422),
        (path(ada, "register"), vec![], register("ada"), 422),
        (path(nobody, "register"), vec![], register("ada"), 409),
        (path(nobody, "close"), vec![], json!({}), 404),
        (path(ada, "close"), vec![("If-Match", "\"7\"")], json!({}), 412),
        (path(ada, "change-username"), vec![("If-Match", "\"1\"")], json!({"username": "ada"}), 200),
    ];
    for (path, headers, body, status) in cases {
        let here = pair.send(0, &path, &headers, &body).await;
        let there = pair.send(1, &path, &headers, &body).await;
        assert_eq!(here.status, status, "{here:?}");
        assert_eq!(here, there);
    }
    assert_eq!(pair.events().await, 1);

    let forwarded = pair.send(1, "/accounts/register", &[], &register("bob")).await;
    assert_eq!((forwarded.status, &forwarded.headers), (StatusCode::CREATED, &registered.headers));
    assert_eq!(forwarded.body["position"], 2);
}

#[tokio::test]
async fn a_key_at_two_instances_at_once_has_one_effect_and_one_answer() {
    let pair = Pair::start().await;
    for round in 0..20 {
        let (path, body) = (format!("/accounts/{}/register", Uuid::now_v7()), register(&format!("u{round}")));
        let key = [("Idempotency-Key", "k")];
        let (here, there) = tokio::join!(pair.send(0, &path, &key, &body), pair.send(1, &path, &key, &body));
        assert_eq!(here, there);
        assert_eq!((here.status, &here.body["position"]), (StatusCode::CREATED, &json!(round + 1)));
    }
    assert_eq!(pair.events().await, 20);
}

#[tokio::test]
async fn a_key_means_the_same_to_the_next_writer() {
    let mut pair = Pair::start().await;
    let path = format!("/accounts/{}/register", Uuid::now_v7());
    let key = [("Idempotency-Key", "k")];
    let before = pair.send(0, &path, &key, &register("ada")).await;
    pair.instances.remove(0).kill().await;
    // The answers in between say that nothing was decided.
    let after = loop {
        let seen = pair.send(0, &path, &key, &register("ada")).await;
        if seen.status != StatusCode::SERVICE_UNAVAILABLE {
            break seen;
        }
        assert!(seen.headers.contains("retry-after"), "{seen:?}");
    };
    assert_eq!(before, after);
    assert_eq!(pair.send(0, &path, &key, &register("eve")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(pair.events().await, 1);
}
