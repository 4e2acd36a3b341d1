//! Quarantine: an event that cannot be applied stops its key alone; a person retries it, or skips it with a reason.

mod broken;
mod scene;
mod unreadable;

use std::time::Duration;

use domain::view::Definition;
use projector::quarantine::{self, Outcome, Request};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::written_log::{closed, event, registered, renamed};
use broken::FRAGILE;
use scene::{Scene, entry, id};

const ADA: u128 = 1;
const BOB: u128 = 2;
const EVE: u128 = 3;
const ALL: &[Definition] = domain::views::ALL;

#[tokio::test]
async fn of_ten_thousand_keys_the_poisoned_one_alone_waits_and_is_right_in_order_after_the_fix() {
    const KEYS: u64 = 10_000;
    const POISONED: u64 = KEYS / 2;
    let mut scene = Scene::of(FRAGILE).await;
    let key = u128::from(POISONED);
    let register = |shift: u64| move |n: u64| registered(n + shift, n.into(), &format!("a{n}"));
    let numbers: Vec<u64> = (1..=KEYS).collect();
    for frame in numbers[..POISONED as usize].chunks(100) {
        let events: Vec<Value> = frame.iter().copied().map(register(0)).collect();
        scene.log.append(&events).await;
    }
    scene.log.append(&[renamed(POISONED + 1, POISONED, key, "poison")]).await;
    for frame in numbers[POISONED as usize..].chunks(100) {
        let events: Vec<Value> = frame.iter().copied().map(register(1)).collect();
        scene.log.append(&events).await;
    }
    let next = scene.log.next();
    scene.log.append(&[renamed(next, POISONED + 1, key, "better")]).await;
    scene.log.append(&[renamed(next + 1, next, key, "best"), closed(next + 2, next + 1, key)]).await;
    scene.folded().await;

    let list = scene.get("/quarantine").await;
    assert_eq!(scene.quarantine().await, [entry("accounts", id(key), POISONED + 1, 4)]);
    let entry = &list[0];
    assert!(entry["error"].as_str().unwrap().contains("there is a bug in the view"), "{entry}");
    assert!(entry["event"].as_str().unwrap().contains("poison"), "{entry}");
    assert_eq!((&entry["attempts"], &entry["in_use"]), (&json!(1), &json!(true)));
    // As before the event.
    let row = "name, status, revision";
    assert_eq!(
        scene.account(key, row).await,
        json!({"name": null, "status": "active", "revision": POISONED})
    );
    let right = "select count(*) from accounts where id <> lpad(to_hex(5000), 32, '0')::uuid
        and username = 'user-' || (revision - (revision > 5000)::int) and status = 'active'";
    assert_eq!(scene.rows(right).await, [json!({"count": KEYS - 1})]);
    assert_eq!(scene.equals_the_log().await, 1);

    scene.becomes(ALL).await;
    scene.released("accounts", &id(key)).await;
    assert_eq!(
        scene.account(key, row).await,
        json!({"name": "best", "status": "closed", "revision": next + 2})
    );
    assert_eq!(scene.quarantine().await, []);
    assert_eq!(scene.equals_the_log().await, 0);
    // It flows again.
    let position = scene.log.next();
    scene.log.append(&[renamed(position, next + 2, key, "again")]).await;
    scene.folded().await;
    assert_eq!(scene.account(key, "name").await, json!({"name": "again"}));
}

#[tokio::test]
async fn a_broken_constraint_is_found_at_its_very_event_and_released_when_it_is_gone() {
    let mut scene = Scene::of(&[]).await;
    scene.execute("alter table accounts add constraint decent check (name <> 'forbidden')").await;
    scene.projector = scene.place.projector_of(ALL).await;
    let lovelace = event(3, 2, ADA, "account.username-changed", json!({"username": "lovelace"}));
    let forbidden = renamed(2, 1, ADA, "forbidden");
    scene.log.append(&[registered(1, ADA, "ada"), forbidden, lovelace, registered(4, BOB, "bob")]).await;
    scene.log.append(&[renamed(5, 4, BOB, "Bob"), closed(6, 3, ADA)]).await;
    scene.folded().await;
    assert_eq!(scene.quarantine().await, [entry("accounts", id(ADA), 2, 3)]);
    let error = &scene.get("/quarantine").await[0]["error"];
    assert!(error.as_str().unwrap().contains("violates check constraint \"decent\""), "{error}");
    assert_eq!(scene.account(ADA, "username, revision").await, json!({"username": "user-1", "revision": 1}));
    assert_eq!(scene.account(BOB, "name").await, json!({"name": "Bob"}));

    scene.execute("alter table accounts drop constraint decent").await;
    scene.released("accounts", &id(ADA)).await;
    let row = json!({"name": "forbidden", "revision": 6, "status": "closed"});
    assert_eq!(scene.account(ADA, "name, revision, status").await, row);
    assert_eq!(scene.equals_the_log().await, 0);
}

/// Each event that breaks the constraint can be skipped, one after the other.
#[tokio::test]
async fn of_two_events_that_break_a_constraint_both_can_be_skipped() {
    let mut scene = Scene::of(&[]).await;
    scene.execute("alter table accounts add constraint decent check (name not like 'forbidden%')").await;
    scene.projector = scene.place.projector_of(ALL).await;
    let username = |position, name| {
        event(position, position - 1, ADA, "account.username-changed", json!({"username": name}))
    };
    scene
        .log
        .append(&[registered(1, ADA, "ada"), renamed(2, 1, ADA, "forbidden 1"), username(3, "countess")])
        .await;
    scene.log.append(&[renamed(4, 3, ADA, "forbidden 2"), username(5, "lovelace")]).await;
    scene.folded().await;
    assert_eq!(scene.quarantine().await, [entry("accounts", id(ADA), 2, 4)]);
    let skip = || scene.post("accounts", &id(ADA), "skip").json(&json!({"reason": "rude"})).send();
    let answer = skip().await.body;
    assert_eq!((&answer["outcome"], &answer["position"]), (&json!("quarantined"), &json!(4)), "{answer}");
    // As before the second.
    assert_eq!(scene.quarantine().await, [entry("accounts", id(ADA), 4, 2)]);
    assert_eq!(scene.account(ADA, "name, username").await, json!({"name": null, "username": "countess"}));
    assert_eq!(scene.equals_the_log().await, 1);
    assert_eq!(skip().await.body, json!({"outcome": "released"}));
    assert_eq!(scene.account(ADA, "name, username").await, json!({"name": null, "username": "lovelace"}));
    assert_eq!(scene.equals_the_log().await, 0);
}

#[tokio::test]
async fn an_event_is_skipped_with_a_reason_for_good() {
    let mut scene = Scene::of(FRAGILE).await;
    scene.log.append(&[registered(1, ADA, "ada"), renamed(2, 1, ADA, "poison")]).await;
    let username = json!({"username": "lovelace"});
    scene.log.append(&[event(3, 2, ADA, "account.username-changed", username)]).await;
    scene.folded().await;
    for body in [json!({}), json!({"reason": "  "}), json!({"reason": "x".repeat(501)}), json!({"why": "no"})]
    {
        let refused = scene.post("accounts", &id(ADA), "skip").json(&body).send().await;
        assert_eq!(refused.problem(), (400, "reason-required"), "{body}");
        assert_eq!(refused.body["field"], "reason");
    }
    assert_eq!(scene.quarantine().await, [entry("accounts", id(ADA), 2, 2)]);

    scene.skipped("accounts", &id(ADA), "a typing error").await;
    let row = json!({"name": null, "username": "lovelace", "revision": 3});
    assert_eq!(scene.account(ADA, "name, username, revision").await, row);
    let kept = scene.rows("select view, key, position, reason, error, event from skipped_events").await;
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (&kept[0]["view"], &kept[0]["key"], &kept[0]["position"], &kept[0]["reason"]),
        (&json!("accounts"), &json!(id(ADA)), &json!(2), &json!("a typing error"))
    );
    assert!(kept[0]["event"].as_str().unwrap().contains("poison"), "{kept:?}");
    assert_eq!(scene.equals_the_log().await, 0);

    // A program that could apply it leaves it out all the same, also in a new build.
    scene.becomes(ALL).await;
    let rebuilt = scene.rebuilt("accounts", false).await.unwrap();
    assert_eq!((rebuilt.to, rebuilt.rows_verified), (2, 1));
    let rebuilt = scene.rows("select name, username, revision from accounts_2").await;
    assert_eq!(rebuilt, [row]);
    assert_eq!(scene.equals_the_log().await, 0);
}

#[tokio::test]
async fn a_retry_without_a_fix_is_counted_and_one_without_a_projector_waits_for_it() {
    let mut scene = Scene::of(FRAGILE).await;
    scene
        .log
        .append(&[registered(1, ADA, "ada"), renamed(2, 1, ADA, "poison"), renamed(3, 2, ADA, "Ada")])
        .await;
    scene.folded().await;
    let answer = scene.retry("accounts", &id(ADA)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let Value::Object(body) = &answer.body else { panic!("{answer:?}") };
    assert_eq!(
        (&body["outcome"], &body["position"], &body["attempts"]),
        (&json!("quarantined"), &json!(2), &json!(2))
    );
    assert!(body["error"].as_str().unwrap().contains("there is a bug"), "{body:?}");
    assert_eq!(scene.quarantine().await, [entry("accounts", id(ADA), 2, 2)]);
    for (view, key) in [("accounts", id(BOB)), ("orders", id(ADA)), ("no_view", id(ADA))] {
        assert_eq!(scene.retry(view, &key).await.problem(), (404, "not-in-quarantine"));
        let skip = scene.post(view, &key, "skip").json(&json!({"reason": "why not"})).send().await;
        assert_eq!(skip.problem(), (404, "not-in-quarantine"));
    }

    scene.projector.stop().await;
    let (mut database, key) = (scene.place.database().await, id(ADA));
    quarantine::request(&mut database, "accounts", &key, &Request::Retry).await.unwrap();
    let outcome = quarantine::outcome(&mut database, "accounts", &key, 1, Duration::ZERO).await.unwrap();
    assert_eq!(outcome, Outcome::Pending);
    scene.projector = scene.place.projector_of(ALL).await;
    let outcome =
        quarantine::outcome(&mut database, "accounts", &key, 1, Duration::from_secs(20)).await.unwrap();
    assert_eq!(outcome, Outcome::Released);
    assert_eq!(scene.account(ADA, "name").await, json!({"name": "Ada"}));
    assert_eq!(scene.equals_the_log().await, 0);
}

/// Keys that only the new build cannot apply keep it from being switched to; what is asked for them is done by
/// the next rebuild.
#[tokio::test]
async fn a_key_in_quarantine_of_a_new_build_is_released_before_it_is_switched_to() {
    let mut scene = Scene::of(ALL).await;
    scene
        .log
        .append(&[registered(1, ADA, "ada"), renamed(2, 1, ADA, "Ada"), registered(3, BOB, "bob")])
        .await;
    scene.folded().await;
    // The new table is made like the old one, before that refuses anything.
    scene.execute("alter table accounts add constraint decent check (name <> 'Ada') not valid").await;
    let error = scene.rebuilt("accounts", false).await.unwrap_err().to_string();
    assert!(error.contains("1 keys are in quarantine in the new build, 0 in the one in use"), "{error}");
    assert_eq!(scene.quarantine().await, [entry("accounts", id(ADA), 2, 1)]);

    let mut database = scene.place.database().await;
    let request = Request::Skip { reason: "indecent".into() };
    let build = quarantine::request(&mut database, "accounts", &id(ADA), &request).await.unwrap();
    assert_eq!(build, 2);
    let outcome =
        quarantine::outcome(&mut database, "accounts", &id(ADA), build, Duration::ZERO).await.unwrap();
    assert_eq!(outcome, Outcome::Pending);
    let rebuilt = scene.rebuilt("accounts", false).await.unwrap();
    assert_eq!((rebuilt.to, rebuilt.from, rebuilt.quarantined), (2, 1, 0));
    assert_eq!(
        scene.rows("select name from accounts_2 order by id").await,
        [json!({"name": null}), json!({"name": null})]
    );
    assert_eq!(scene.quarantine().await, []);
    assert_eq!(scene.equals_the_log().await, 0);
}
