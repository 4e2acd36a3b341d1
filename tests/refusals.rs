//! What is wrong with a request is said in one form, names the place, and says what would be accepted.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Answer, World};

/// A problem as it should be: its own page exists, and somewhere it says each of `words`.
async fn refused(world: &World, answer: Answer, expected: (u16, &str), words: &[&str]) {
    assert_eq!(answer.problem(), expected, "{}", answer.text);
    for word in words {
        assert!(answer.text.contains(word), "no `{word}` in {}", answer.text);
    }
    for service in [&world.commands, &world.queries] {
        let page =
            reqwest::get(format!("{}{}", service.url, answer.body["type"].as_str().unwrap())).await.unwrap();
        assert!(page.status().is_success(), "no page for {}", answer.text);
    }
    assert!(
        !answer.body["title"].as_str().unwrap().is_empty()
            && !answer.body["detail"].as_str().unwrap().is_empty()
    );
}

#[tokio::test]
async fn a_bad_command_is_refused_and_leaves_no_event() {
    let world = World::start().await;
    let id = Uuid::now_v7();
    let register = format!("/accounts/{id}/register");
    let json = "application/json";
    let too_large = "x".repeat(2 * 1024 * 1024);
    type Case<'a> = (&'a str, &'a str, &'a str, (u16, &'a str), &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (&register, json, r#"{"email": "a@example.org", "#, (400, "malformed-json"), &["line 1"]),
        (&register, json, "[1]", (400, "invalid-field"), &["expected"]),
        (
            &register,
            json,
            r#"{"email": 7, "username": "ada"}"#,
            (400, "invalid-field"),
            &[r#""field":"email""#, "string"],
        ),
        (
            &register,
            json,
            r#"{"email": "ada", "username": "ada"}"#,
            (400, "invalid-field"),
            &[r#""field":"email""#, "name@example.org"],
        ),
        (&register, json, r#"{"email": "a@example.org"}"#, (400, "invalid-field"), &["username"]),
        (
            &register,
            json,
            r#"{"email": "a@example.org", "username": "ada", "nick": "x"}"#,
            (400, "invalid-field"),
            &["nick", "region"],
        ),
        (
            &register,
            json,
            r#"{"email": "a@example.org", "username": "ada", "name": "\u0000"}"#,
            (400, "invalid-field"),
            &[r#""field":"name""#, "control"],
        ),
        (&register, json, &too_large, (413, "body-too-large"), &["65536"]),
        (&register, "text/plain", "{}", (415, "unsupported-media-type"), &[json]),
        ("/accounts/7/register", json, "{}", (400, "invalid-id"), &["UUID"]),
        ("/accounts/promote", json, "{}", (404, "unknown-command"), &["register", "close"]),
        ("/planets/visit", json, "{}", (404, "unknown-route"), &["accounts", "orders"]),
        ("/accounts", json, "{}", (404, "unknown-route"), &["/accounts"]),
        ("/orders/place", json, r#"{"quantity": 0}"#, (400, "invalid-field"), &["quantity", "from 1 to"]),
        ("/orders/place", json, r#"{"currency": "EUR"}"#, (400, "invalid-field"), &["currency", "USD"]),
        (
            "/orders/place",
            json,
            r#"{"placed_at": "1969-01-01T00:00:00Z"}"#,
            (400, "invalid-field"),
            &["placed_at", "1970"],
        ),
    ];
    for (path, content_type, body, expected, words) in cases {
        let call = world.post(path).header("content-type", content_type).body(body.to_string());
        refused(&world, call.send().await, *expected, words).await;
    }
    for (header, value, words) in [
        ("Idempotency-Key", "a b", ["Idempotency-Key", "visible ASCII"]),
        ("If-Match", "12", ["If-Match", "double quotes"]),
    ] {
        let answer = world
            .post("/accounts/register")
            .header(header, value)
            .json(&json!({"email": "a@example.org", "username": "ada"}));
        refused(&world, answer.send().await, (400, "invalid-header"), &words).await;
    }
    assert_eq!(world.event_types().await, [""; 0]);
}

#[tokio::test]
async fn a_wrong_method_is_refused_by_both_services() {
    let world = World::start().await;
    for url in
        [format!("{}/accounts/register", world.commands.url), format!("{}/accounts", world.queries.url)]
    {
        let response = reqwest::Client::new().delete(&url).send().await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_bad_query_is_refused_and_says_what_may_be_asked() {
    let world = World::start().await;
    let cases: &[(&str, (u16, &str), &[&str])] = &[
        ("/accounts?fields=id,shoe_size", (400, "unknown-field"), &["shoe_size", "username"]),
        ("/accounts?name=Ada", (400, "not-indexed"), &["name", "email"]),
        ("/accounts?sort=region", (400, "not-indexed"), &["region", "created_at"]),
        ("/accounts?limit=0", (400, "invalid-value"), &["limit", "1000"]),
        ("/accounts?limit=1000000", (400, "invalid-value"), &["limit", "1000"]),
        ("/accounts?cursor=nonsense", (400, "invalid-cursor"), &["cursor"]),
        ("/accounts/7", (400, "invalid-value"), &["id"]),
        ("/daily_sales/yesterday", (400, "invalid-value"), &["day"]),
        ("/accounts/00000000-0000-0000-0000-000000000000", (404, "no-such-row"), &["accounts"]),
        ("/planets", (404, "unknown-view"), &["accounts", "daily_sales"]),
    ];
    for (path, expected, words) in cases {
        refused(&world, world.get(path).send().await, *expected, words).await;
    }
    let position = world.get("/accounts").header("Min-Position", "soon").send().await;
    refused(&world, position, (400, "invalid-header"), &["Min-Position"]).await;
    let behind =
        world.get("/accounts").header("Min-Position", 1_000_000).header("Prefer", "wait=0").send().await;
    assert_eq!(behind.header("retry-after"), "1");
    refused(&world, behind, (503, "view-behind"), &["1000000"]).await;
}

/// So deep that reading it by recursion would end the process, and almost as much as a body may hold.
#[tokio::test]
async fn json_that_is_nested_too_deeply_is_refused_like_any_other_that_is_wrong() {
    let world = World::start().await;
    let (arrays, objects) = ("[".repeat(30_000), r#"{"a":"#.repeat(12_000));
    for deep in [&arrays, &objects, &format!("{arrays}{}", "]".repeat(30_000))] {
        for body in [
            deep.clone(),
            format!(r#"{{"email": {deep}"#),
            format!(r#"{{"email": "a@example.org", "username": "ada", "name": {deep}}}"#),
            format!(r#"{{"email": "a@example.org", "username": "ada", "unknown": {deep}}}"#),
        ] {
            let call = world.post("/accounts/register").header("Content-Type", "application/json");
            let answer = call.body(body).send().await;
            let (status, code) = answer.problem();
            assert!(status == 400 && ["malformed-json", "invalid-field"].contains(&code), "{answer:?}");
            assert!(!answer.body["detail"].as_str().unwrap().is_empty(), "{answer:?}");
        }
        let line =
            |data: &str| format!(r#"{{"aggregate": "accounts", "command": "register", "data": {data}}}"#);
        let lines = [
            deep.clone(),
            line(deep),
            line(&format!(r#"{{"email": {deep}}}"#)),
            format!(r#"{{"aggregate": {deep}}}"#),
            format!(r#"{{"unknown": {deep}}}"#),
        ];
        let import = world.post("/commands").header("Content-Type", "application/x-ndjson");
        let results = import.body(lines.join("\n")).send().await;
        let results: Vec<Value> =
            results.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (summary, results) = results.split_last().unwrap();
        assert_eq!(*summary, json!({"done": true, "commands": 5, "accepted": 0, "failed": 5}));
        assert!(results.iter().all(|result| result["status"] == 400), "{results:?}");
    }
    assert_eq!(world.event_types().await, [""; 0]);
}
