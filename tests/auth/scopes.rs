//! What a token allows at each service, and for how long.

use std::time::Instant;

use reqwest::StatusCode;
use serde_json::json;
use stack::{
    issuer::Issuer as StackIssuer,
    sample::{self, Sample},
};
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, World, until},
    issuer::{Issuer, claims, now},
};

async fn world(issuer: &Issuer) -> World {
    World::at(Place::new(Servers::shared().await).await.told(issuer.flags())).await
}

/// What is missing is named, for people and for programs.
fn lacks(answer: &Answer, scope: &str) {
    assert_eq!(answer.problem(), (403, "forbidden"), "{scope}");
    assert!(answer.body["detail"].as_str().unwrap().contains(&format!("`{scope}`")), "{answer:?}");
    assert!(answer.header("www-authenticate").contains(&format!("scope=\"{scope}\"")), "{answer:?}");
}

#[tokio::test]
async fn each_service_asks_for_the_scope_of_what_is_done() {
    let issuer = Issuer::new();
    let world = world(&issuer).await;
    let ada = Uuid::now_v7();
    let none = issuer.token(&ada.to_string(), "openid account accounts:write read:accounts");
    let register = world.post(&format!("/accounts/{ada}/register"));
    let fields = json!({"email": "ada@example.org", "username": "ada"});
    lacks(&register.token(&none).json(&fields).send().await, "account:register");
    lacks(&world.get("/accounts").token(&none).send().await, "accounts:read");
    lacks(&world.get(&format!("/accounts/{ada}")).token(&none).send().await, "accounts:read");
    let stream = world.get("/accounts").header("Accept", "text/event-stream");
    lacks(&stream.token(&none).send().await, "accounts:read");
    let projector =
        |path: &str| Call::new(reqwest::Client::new().get(format!("{}{path}", world.projector.url)));
    lacks(&projector("/views").token(&none).send().await, "views:read");
    lacks(&projector("/quarantine").token(&none).send().await, "quarantine:read");
    for (command, scope) in [("retry", "quarantine:retry"), ("skip", "quarantine:skip")] {
        let url = format!("{}/quarantine/accounts/{ada}/{command}", world.projector.url);
        let request = Call::new(reqwest::Client::new().post(url)).token(&none);
        lacks(&request.json(&json!({"reason": "x"})).send().await, scope);
    }
    assert!(world.event_types().await.is_empty());

    let all =
        issuer.token(&ada.to_string(), "account:register accounts:read:any views:read quarantine:read:any");
    let registered = world.post(&format!("/accounts/{ada}/register")).token(&all).json(&fields).send().await;
    assert_eq!(registered.status, StatusCode::CREATED, "{registered:?}");
    let read = world.get(&format!("/accounts/{ada}?fields=username")).header("Min-Position", 1).token(&all);
    assert_eq!(read.send().await.body, json!({"username": "ada"}));
    lacks(&world.get("/orders").token(&all).send().await, "orders:read");
    for path in ["/views", "/quarantine"] {
        assert_eq!(projector(path).token(&all).send().await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let issuer = Issuer::new();
    let world = world(&issuer).await;
    let mut short = claims("ada", "accounts:read:any");
    short["exp"] = json!(now() + 2);
    let request = reqwest::Client::new().get(format!("{}/accounts", world.queries.url));
    let request = request.header("Accept", "text/event-stream").bearer_auth(issuer.key.token(&short));
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    let begun = Instant::now();
    let mut text = String::new();
    until("the stream has ended", async || match stream.chunk().await.unwrap() {
        Some(chunk) => {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            false
        }
        None => true,
    })
    .await;
    assert!(text.contains("event: state"), "{text}");
    assert!(now() >= short["exp"].as_u64().unwrap(), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn the_sample_is_imported_with_a_token_of_the_stack() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = StackIssuer::open(folder.path()).unwrap();
    let flag = |(name, value): (&str, String)| {
        let name = name.strip_prefix("HEADWATER_").unwrap().to_lowercase().replace('_', "-");
        [format!("--{name}"), value]
    };
    let flags = issuer.settings().into_iter().flat_map(flag).collect();
    let world = World::at(Place::new(Servers::shared().await).await.told(flags)).await;
    let purchases: Vec<_> = Sample::Small.purchases().await.unwrap().into_iter().take(20).collect();
    let denied = sample::load(&world.commands.url, None, purchases.clone()).await.unwrap_err();
    assert!(format!("{denied:#}").contains("unauthenticated"), "{denied:#}");
    sample::load(&world.commands.url, Some(&issuer), purchases).await.unwrap();
    assert!(world.event_types().await.len() > 20);
}
