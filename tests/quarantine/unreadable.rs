//! Events that cannot be read: nobody knows what they would have changed, so they wait with their aggregate.

use serde_json::{Value, json};

use super::{
    ADA, ALL, BOB, EVE,
    broken::PUZZLED,
    scene::{Scene, account_key, entry, id, order_key},
};
use crate::written_log::{cancelled, closed, event, placed, registered, renamed};

#[tokio::test]
async fn what_cannot_be_read_waits_with_its_aggregate_in_the_views_concerned() {
    let mut scene = Scene::of(ALL).await;
    let log = &mut scene.log;
    let mut future = closed(6, 3, EVE);
    future["dataschema"] = json!("urn:headwater:account.closed:99");
    log.append(&[registered(1, ADA, "ada"), registered(2, BOB, "bob"), registered(3, EVE, "eve")]).await;
    log.append(&[event(4, 1, ADA, "account.renamed", json!({"name": 7}))]).await;
    log.append(&[event(5, 2, BOB, "account.exploded", json!({})), future]).await;
    log.append(&[event(7, 0, 4, "planet.formed", json!({})), registered(8, 5, "dan")]).await;
    log.append(&[renamed(9, 4, ADA, "Ada"), renamed(10, 8, 5, "Dan"), placed(11, 6, 5, 100)]).await;
    scene.folded().await;

    let planet = format!("planet:{}", id(4));
    assert_eq!(
        scene.quarantine().await,
        [
            entry("accounts", account_key(ADA), 4, 2),
            entry("accounts", account_key(BOB), 5, 1),
            entry("accounts", account_key(EVE), 6, 1),
            entry("accounts", &planet, 7, 1),
            entry("customers", &planet, 7, 1),
            entry("daily_sales", &planet, 7, 1),
            entry("orders", &planet, 7, 1),
        ]
    );
    let errors: Vec<Value> =
        scene.rows("select error from quarantine where view = 'accounts' order by position").await;
    for (error, words) in
        errors.iter().zip(["`name`", "account.exploded", "unknown version 99", "planet.formed"])
    {
        assert!(error["error"].as_str().unwrap().contains(words), "{errors:?}");
    }
    assert_eq!(scene.account(ADA, "name, revision").await, json!({"name": null, "revision": 1}));
    assert_eq!(scene.account(5, "name").await, json!({"name": "Dan"}));
    assert_eq!(scene.customer(5).await, json!({"orders": 1, "spent_cents": 100}));
    let quarantined = |report: &Value| -> Vec<u64> {
        report.as_array().unwrap().iter().map(|view| view["quarantined"].as_u64().unwrap()).collect()
    };
    assert_eq!(quarantined(&scene.get("/views").await), [4, 1, 1, 1]);

    // The log is not well, but the views are what the rest of it folds to.
    let report = replay::verify(&scene.log.log, &scene.place.database_url, |_| ()).await.unwrap();
    assert_eq!((report.differences.len(), report.log_problems.len()), (0, 4), "{report:?}");
    let held: Vec<usize> = report.views.iter().map(|view| view.quarantined).collect();
    assert_eq!(held, [4, 1, 1, 1]);
}

#[tokio::test]
async fn events_of_unknown_types_can_be_skipped_and_no_others() {
    let mut scene = Scene::of(&[]).await;
    scene.projector = scene.place.projector_with(ALL, "skip").await;
    scene.log.append(&[registered(1, ADA, "ada"), event(2, 1, ADA, "account.exploded", json!({}))]).await;
    scene.log.append(&[renamed(3, 2, ADA, "Ada"), event(4, 0, 4, "planet.formed", json!({}))]).await;
    scene.log.append(&[event(5, 3, ADA, "account.renamed", json!({"name": 7}))]).await;
    scene.folded().await;
    assert_eq!(scene.quarantine().await, [entry("accounts", account_key(ADA), 5, 1)]);
    assert_eq!(scene.account(ADA, "name, revision").await, json!({"name": "Ada", "revision": 3}));
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_skipped_with_its_aggregate_flowing_on() {
    let mut scene = Scene::of(ALL).await;
    scene.log.append(&[registered(1, ADA, "ada"), event(2, 1, ADA, "account.exploded", json!({}))]).await;
    scene.log.append(&[renamed(3, 2, ADA, "Ada")]).await;
    scene.folded().await;
    scene.skipped("accounts", &account_key(ADA), "nobody knows what it was").await;
    assert_eq!(scene.account(ADA, "name, revision").await, json!({"name": "Ada", "revision": 3}));
    assert_eq!(scene.equals_the_log().await, 0);
    scene.rebuilt("accounts", false).await.unwrap();
    assert_eq!(
        scene.rows("select name, revision from accounts_2").await,
        [json!({"name": "Ada", "revision": 3})]
    );
    assert_eq!(scene.equals_the_log().await, 0);
}

/// What stands between two events that cannot be read is folded before the second.
#[tokio::test]
async fn of_two_events_that_cannot_be_read_both_can_be_skipped() {
    let mut scene = Scene::of(ALL).await;
    scene.log.append(&[registered(1, ADA, "ada"), event(2, 1, ADA, "account.exploded", json!({}))]).await;
    scene.log.append(&[renamed(3, 2, ADA, "Ada"), event(4, 3, ADA, "account.exploded", json!({}))]).await;
    scene
        .log
        .append(&[event(5, 4, ADA, "account.exploded", json!({})), renamed(6, 5, ADA, "Countess")])
        .await;
    scene.folded().await;
    assert_eq!(scene.quarantine().await, [entry("accounts", account_key(ADA), 2, 5)]);
    for (position, held) in [(4, 3), (5, 2)] {
        let skip = scene
            .post("accounts", &account_key(ADA), "skip")
            .json(&json!({"reason": "noise"}))
            .send()
            .await
            .body;
        assert_eq!(
            (&skip["outcome"], &skip["position"]),
            (&json!("quarantined"), &json!(position)),
            "{skip}"
        );
        assert_eq!(scene.quarantine().await, [entry("accounts", account_key(ADA), position, held)]);
        assert_eq!(scene.account(ADA, "name, revision").await, json!({"name": "Ada", "revision": 3}));
        assert_eq!(scene.equals_the_log().await, 1);
    }
    scene.skipped("accounts", &account_key(ADA), "noise").await;
    assert_eq!(scene.quarantine().await, []);
    assert_eq!(scene.account(ADA, "name, revision").await, json!({"name": "Countess", "revision": 6}));
    assert_eq!(scene.equals_the_log().await, 0);
}

/// A customer's row is made of many orders; one of them that cannot be read does not hold back the others.
#[tokio::test]
async fn an_unreadable_order_is_missing_from_its_customer_until_it_can_be_read() {
    let mut scene = Scene::of(PUZZLED).await;
    let log = &mut scene.log;
    log.append(&[registered(1, ADA, "ada"), placed(2, 10, ADA, 100), placed(3, 11, ADA, 666)]).await;
    log.append(&[placed(4, 12, ADA, 250), cancelled(5, 3, 11, ADA, 666), placed(6, 13, ADA, 666)]).await;
    log.append(&[event(7, 2, 10, "order.cancelled", json!({"reason": 1})), placed(8, 14, ADA, 30)]).await;
    scene.folded().await;
    let held = |view: &str| {
        [entry(view, order_key(10), 7, 1), entry(view, order_key(11), 3, 2), entry(view, order_key(13), 6, 1)]
    };
    let mut expected: Vec<_> = held("customers").into_iter().chain(held("daily_sales")).collect();
    expected.push(entry("orders", order_key(10), 7, 1));
    assert_eq!(scene.quarantine().await, expected);
    assert_eq!(scene.customer(ADA).await, json!({"orders": 3, "spent_cents": 380}));
    assert_eq!(scene.equals_the_log().await, 7);

    scene.becomes(ALL).await;
    for view in ["customers", "daily_sales"] {
        scene.released(view, &order_key(13)).await;
        scene.released(view, &order_key(11)).await;
    }
    assert_eq!(scene.customer(ADA).await, json!({"orders": 4, "spent_cents": 1046}));
    let sales = scene.rows("select orders, quantity, amount_cents from daily_sales").await;
    assert_eq!(sales, [json!({"orders": 4, "quantity": 4, "amount_cents": 1046})]);
    assert_eq!(scene.equals_the_log().await, 3);
    let still = scene.retry("customers", &order_key(10)).await.body;
    assert_eq!(
        (&still["outcome"], &still["position"], &still["attempts"]),
        (&json!("quarantined"), &json!(7), &json!(2))
    );
    // Rebuilding comes to the same: the build has the order's first event, and not its last.
    scene.rebuilt("customers", false).await.unwrap();
    assert_eq!(scene.equals_the_log().await, 3);
}

/// An order is held back, and the row that it touches as well, because of another order: whichever is released
/// first, nothing is lost and nothing counted twice.
#[tokio::test]
async fn a_row_and_an_aggregate_that_touches_it_are_released_in_any_order() {
    for row_first in [true, false] {
        let mut scene = Scene::of(&[]).await;
        scene.execute("alter table customers add constraint modest check (spent_cents < 1000)").await;
        scene.projector = scene.place.projector_of(PUZZLED).await;
        let log = &mut scene.log;
        log.append(&[registered(1, ADA, "ada"), placed(2, 10, ADA, 100), placed(3, 11, ADA, 666)]).await;
        log.append(&[placed(4, 12, ADA, 200), placed(5, 13, ADA, 5_000), placed(6, 14, ADA, 30)]).await;
        log.append(&[cancelled(7, 3, 11, ADA, 666), placed(8, 15, ADA, 4)]).await;
        scene.folded().await;
        let customers = scene.quarantine().await.into_iter().filter(|entry| entry.0 == "customers");
        let expected = [entry("customers", id(ADA), 5, 3), entry("customers", order_key(11), 3, 2)];
        assert_eq!(customers.collect::<Vec<_>>(), expected);
        assert_eq!(scene.customer(ADA).await, json!({"orders": 2, "spent_cents": 300}));

        scene.execute("alter table customers drop constraint modest").await;
        scene.becomes(ALL).await;
        let mut keys = [id(ADA), order_key(11)];
        if !row_first {
            keys.reverse();
        }
        scene.released("customers", &keys[0]).await;
        assert_eq!(scene.equals_the_log().await, 2);
        scene.released("customers", &keys[1]).await;
        assert_eq!(scene.customer(ADA).await, json!({"orders": 5, "spent_cents": 5_334}));
        assert_eq!(scene.equals_the_log().await, 1);
    }
}

/// The aggregate can be read again, but the row that it touches cannot take it: then the row waits, at that event.
#[tokio::test]
async fn a_row_that_refuses_an_event_which_can_be_read_again_waits_in_its_place() {
    let mut scene = Scene::of(&[]).await;
    scene.execute("alter table customers add constraint modest check (spent_cents < 600)").await;
    scene.projector = scene.place.projector_of(PUZZLED).await;
    scene.log.append(&[registered(1, ADA, "ada"), placed(2, 10, ADA, 100), placed(3, 11, ADA, 666)]).await;
    scene.log.append(&[placed(4, 12, ADA, 200)]).await;
    scene.folded().await;
    assert_eq!(scene.customer(ADA).await, json!({"orders": 2, "spent_cents": 300}));
    scene.becomes(ALL).await;
    scene.released("customers", &order_key(11)).await;
    let customers = scene.quarantine().await.into_iter().filter(|entry| entry.0 == "customers");
    assert_eq!(customers.collect::<Vec<_>>(), [entry("customers", id(ADA), 3, 2)]);
    assert_eq!(scene.customer(ADA).await, json!({"orders": 1, "spent_cents": 100}));
    assert_eq!(scene.equals_the_log().await, 2);

    let still = scene.retry("customers", &id(ADA)).await.body;
    assert_eq!((&still["outcome"], &still["attempts"]), (&json!("quarantined"), &json!(2)), "{still}");
    assert!(still["error"].as_str().unwrap().contains("modest"), "{still}");
    scene.execute("alter table customers drop constraint modest").await;
    scene.released("customers", &id(ADA)).await;
    assert_eq!(scene.customer(ADA).await, json!({"orders": 3, "spent_cents": 966}));
    assert_eq!(scene.equals_the_log().await, 1);
}
