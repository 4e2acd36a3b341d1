//! Whose an aggregate is, and what others get to know of it.

use reqwest::StatusCode;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, World},
    instance::{Instance, writer},
    issuer::Issuer,
};

const CUSTOMER: &str = "account:register account:change-email account:close order:place order:cancel";

/// Somebody with a token, and an id that is theirs.
struct Person<'a> {
    id: Uuid,
    token: String,
    url: &'a str,
}

impl<'a> Person<'a> {
    fn new(issuer: &Issuer, url: &'a str, scopes: &str) -> Self {
        let id = Uuid::now_v7();
        Self { id, token: issuer.token(&id.to_string(), scopes), url }
    }

    fn post(&self, path: &str, body: &Value) -> Call {
        Call::new(reqwest::Client::new().post(format!("{}{path}", self.url))).token(&self.token).json(body)
    }

    async fn send(&self, path: &str, body: &Value, key: &str) -> Answer {
        self.post(path, body).key(key).send().await
    }

    async fn register(&self) -> Answer {
        self.send(&format!("/accounts/{}/register", self.id), &registration(self.id), "register").await
    }
}

fn registration(id: Uuid) -> Value {
    let name = &id.simple().to_string()[20..];
    json!({"email": format!("{name}@example.org"), "username": format!("u-{name}")})
}

fn order(account: Uuid) -> Value {
    json!({"account_id": account, "quantity": 1, "amount_cents": 100, "currency": "USD"})
}

fn refused(answer: &Answer, what: &str) {
    assert_eq!(answer.problem(), (403, "forbidden"), "{what}");
    assert!(answer.headers.get("etag").is_none() && answer.headers.get("log-position").is_none(), "{what}");
}

/// What holds at any instance, whether it writes or forwards.
async fn one_commands_what_is_ones_own(issuer: &Issuer, url: &str) {
    let (ada, eve) = (Person::new(issuer, url, CUSTOMER), Person::new(issuer, url, CUSTOMER));
    let clerk = Person::new(issuer, url, "order:cancel:any account:close:any");
    assert_eq!(ada.register().await.status, StatusCode::CREATED);
    assert_eq!(eve.register().await.status, StatusCode::CREATED);
    let placed = ada.send("/orders/place", &order(ada.id), "order-1").await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed:?}");
    let order_path = format!("/orders/{}", placed.body["id"].as_str().unwrap());
    let cancel = json!({"reason": "changed my mind"});

    // Eve says what Ada said, with Ada's keys, and otherwise; and asks of what is not there.
    let of_ada = format!("/accounts/{}", ada.id);
    let nowhere = Uuid::now_v7();
    let probes = [
        (format!("{of_ada}/register"), registration(ada.id), "register"),
        (format!("{of_ada}/register"), registration(nowhere), "register"),
        (format!("{of_ada}/register"), registration(nowhere), "another"),
        (format!("{of_ada}/change-email"), json!({"email": "eve@example.org"}), "register"),
        (format!("{of_ada}/close"), json!({}), "another"),
        (format!("/accounts/{nowhere}/register"), registration(nowhere), "another"),
        (format!("/accounts/{nowhere}/close"), json!({}), "another"),
        ("/accounts/register".to_owned(), registration(nowhere), "another"),
        (format!("{order_path}/cancel"), cancel.clone(), "order-1"),
        (format!("{order_path}/cancel"), cancel.clone(), "another"),
        (format!("{order_path}/place"), order(ada.id), "order-1"),
        (format!("{order_path}/place"), order(eve.id), "another"),
        (format!("/orders/{nowhere}/place"), order(ada.id), "another"),
        (format!("/orders/{nowhere}/cancel"), cancel.clone(), "another"),
        ("/orders/place".to_owned(), order(ada.id), "another"),
    ];
    let mut told = Vec::new();
    for (path, body, key) in probes {
        let answer = eve.send(&path, &body, key).await;
        refused(&answer, &format!("{path} {body} {key}"));
        told.push(answer.text);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "all are told the same: {told:?}");
    let stale = eve.post(&format!("{of_ada}/close"), &json!({})).header("If-Match", "\"99\"").send().await;
    refused(&stale, "a revision is not told");

    // Her own key of the same name is another one.
    let own = eve.send("/orders/place", &order(eve.id), "order-1").await;
    assert_eq!(own.status, StatusCode::CREATED, "{own:?}");
    assert_ne!(own.body["id"], placed.body["id"]);

    // Ada goes on, and repeats herself, also when there is nothing left to command.
    let repeated = ada.send("/orders/place", &order(ada.id), "order-1").await;
    assert_eq!(repeated.body, placed.body);
    let email = json!({"email": format!("{nowhere}@example.org")});
    let changed = ada.send(&format!("{of_ada}/change-email"), &email, "k").await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let cancelled = ada.send(&format!("{order_path}/cancel"), &cancel, "cancel").await;
    assert_eq!(cancelled.status, StatusCode::OK, "{cancelled:?}");
    assert_eq!(ada.send(&format!("{order_path}/cancel"), &cancel, "cancel").await.body, cancelled.body);
    refused(&eve.send(&format!("{order_path}/cancel"), &cancel, "cancel").await, "a cancelled order");

    // Who reaches everybody's, reaches these.
    let own = format!("/orders/{}/cancel", own.body["id"].as_str().unwrap());
    assert_eq!(clerk.send(&own, &cancel, "clerk").await.status, StatusCode::OK);
    assert_eq!(clerk.send(&format!("{of_ada}/close"), &json!({}), "clerk").await.status, StatusCode::OK);
    refused(&eve.send(&format!("{of_ada}/close"), &json!({}), "clerk").await, "a closed account");
}

#[tokio::test]
async fn one_commands_what_is_ones_own_wherever_it_is_decided() {
    let issuer = Issuer::new();
    let namespace = format!("t{}", Uuid::now_v7().simple());
    let place = Place::with(Servers::shared().await, namespace, String::new());
    let folder = temporary_folder().unwrap();
    let mut instances = Vec::new();
    for name in ["a", "b"] {
        instances.push(Instance::start_with(&place, &folder.path().join(name), issuer.settings()).await);
    }
    let first = writer(&instances).await;
    instances.swap(0, first);
    tokio::join!(
        one_commands_what_is_ones_own(&issuer, &instances[0].url),
        one_commands_what_is_ones_own(&issuer, &instances[1].url)
    );
    for instance in instances {
        instance.stop().await;
    }
}

#[tokio::test]
async fn an_event_names_who_caused_it() {
    let issuer = Issuer::new();
    let world = World::at(Place::new(Servers::shared().await).await.told(issuer.flags())).await;
    let ada = Person::new(&issuer, &world.commands.url, CUSTOMER);
    assert_eq!(ada.register().await.status, StatusCode::CREATED);
    let mut follower = world.place.log().await.follow(Default::default());
    let frames = follower.available().await.unwrap();
    let actors: Vec<_> =
        frames.iter().flat_map(|frame| &frame.events).map(|event| event.actor.clone()).collect();
    assert_eq!(actors, [Some(ada.id.to_string())]);
}

#[tokio::test]
async fn an_import_asks_of_each_line_whose_it_is() {
    let issuer = Issuer::new();
    let world = World::at(Place::new(Servers::shared().await).await.told(issuer.flags())).await;
    let ada = Person::new(&issuer, &world.commands.url, "account:register order:place");
    let eve = Uuid::now_v7();
    let line = |aggregate: &str, id: Uuid, command: &str, data: Value| {
        json!({"aggregate": aggregate, "id": id, "command": command, "data": data}).to_string()
    };
    let lines = [
        line("accounts", ada.id, "register", registration(ada.id)),
        line("accounts", eve, "register", registration(eve)),
        line("accounts", ada.id, "close", json!({})),
        line("orders", Uuid::now_v7(), "place", order(ada.id)),
        line("orders", Uuid::now_v7(), "place", order(eve)),
    ];
    let import =
        world.post("/commands").header("Content-Type", "application/x-ndjson").body(lines.join("\n"));
    let without = Call::new(reqwest::Client::new().post(format!("{}/commands", world.commands.url)));
    assert_eq!(without.body(lines[0].clone()).send().await.problem(), (401, "unauthenticated"));
    let answer = import.token(&ada.token).send().await;
    let results: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<_> = results.iter().filter_map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [201, 403, 403, 201, 403], "{}", answer.text);
    assert_eq!(world.event_types().await, ["account.registered", "order.placed"]);
}
