//! Quarantine: an event that cannot be applied stops its key alone; a person retries it, or skips it with a reason.

use std::time::Duration;

use domain::{
    Event, Kind, Recorded, View, account, order,
    view::{Definition, Touch},
    views::{Accounts, Customers, DailySales, Orders},
};
use projector::{
    Manager, Settings, UnknownEvents, Verify, Which,
    quarantine::{self, Outcome, Request},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, Service, until},
    written_log::{Log, cancelled, closed, event, placed, registered, renamed},
};

const ADA: u128 = 1;
const BOB: u128 = 2;
const EVE: u128 = 3;
const ALL: &[Definition] = domain::views::ALL;

/// What no view of a broken program can do: panics when an account is renamed to "poison", or an order of 666
/// cents is placed.
fn panic_at(recorded: &Recorded) {
    let is_poison = match &recorded.event {
        Event::Account(account::Event::Renamed { name }) => name.as_str() == "poison",
        Event::Order(order::Event::Placed(purchase)) => purchase.amount_cents.get() == 666,
        _ => false,
    };
    assert!(!is_poison, "there is a bug in the view");
}

/// A view whose `apply` panics; the view itself is the corrected program.
struct Fragile<V>(V);

impl<V: View> View for Fragile<V> {
    const NAME: &'static str = V::NAME;
    const KEY: &'static str = V::KEY;
    const VERSION: i32 = V::VERSION;
    const AGGREGATES: &'static [Kind] = V::AGGREGATES;
    type Row = V::Row;

    fn touches(recorded: &Recorded) -> Touch {
        V::touches(recorded)
    }

    fn apply(row: Option<V::Row>, recorded: &Recorded) -> Option<V::Row> {
        panic_at(recorded);
        V::apply(row, recorded)
    }
}

/// A view that cannot tell which rows such an event touches.
struct Puzzled<V>(V);

impl<V: View> View for Puzzled<V> {
    const NAME: &'static str = V::NAME;
    const KEY: &'static str = V::KEY;
    const VERSION: i32 = V::VERSION;
    const AGGREGATES: &'static [Kind] = V::AGGREGATES;
    type Row = V::Row;

    fn touches(recorded: &Recorded) -> Touch {
        panic_at(recorded);
        V::touches(recorded)
    }

    fn apply(row: Option<V::Row>, recorded: &Recorded) -> Option<V::Row> {
        V::apply(row, recorded)
    }
}

const FRAGILE: &[Definition] = &[
    Definition::of::<Fragile<Accounts>>(),
    Definition::of::<Orders>(),
    Definition::of::<Fragile<Customers>>(),
    Definition::of::<DailySales>(),
];
const PUZZLED: &[Definition] = &[
    Definition::of::<Accounts>(),
    Definition::of::<Orders>(),
    Definition::of::<Puzzled<Customers>>(),
    Definition::of::<Puzzled<DailySales>>(),
];

/// A log written by hand, and a projector that folds it.
struct Scene {
    place: Place,
    log: Log,
    projector: Service,
}

impl Scene {
    async fn of(views: &'static [Definition]) -> Self {
        let place = Place::new(Servers::shared().await).await;
        let log = Log::at(&place).await;
        let projector = place.projector_of(views).await;
        Self { place, log, projector }
    }

    /// Another program takes the projector's place.
    async fn becomes(&mut self, views: &'static [Definition]) {
        self.projector.stop().await;
        self.projector = self.place.projector_of(views).await;
    }

    /// Every view has reached the end of the log.
    async fn folded(&self) {
        let head = i64::try_from(self.log.head.position).unwrap();
        let mut database = self.place.database().await;
        until("every view is folded up to the end of the log", async || {
            let least =
                "select min(c.position) from checkpoints c join views v on (name, v.build) = (view, c.build)";
            sqlx::query_scalar::<_, i64>(least).fetch_one(&mut database).await.unwrap() == head
        })
        .await;
    }

    /// The rows of a query, as JSON.
    async fn rows(&self, select: &str) -> Vec<Value> {
        let sql = format!("select to_json(r)::text from ({select}) r");
        let mut database = self.place.database().await;
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut database).await.unwrap();
        rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.place.database().await).await.unwrap();
    }

    /// Some columns of an account's row; null without one.
    async fn account(&self, id: u128, columns: &str) -> Value {
        let id = Uuid::from_u128(id);
        self.rows(&format!("select {columns} from accounts where id = '{id}'"))
            .await
            .pop()
            .unwrap_or_default()
    }

    async fn customer(&self, id: u128) -> Value {
        let id = Uuid::from_u128(id);
        let select = format!("select orders, spent_cents from customers where id = '{id}'");
        self.rows(&select).await.pop().unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        let answer =
            Call::new(reqwest::Client::new().get(format!("{}{path}", self.projector.url))).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body
    }

    /// View, key, position and held events of all that is in quarantine.
    async fn quarantine(&self) -> Vec<(String, String, u64, u64)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entry = |entry: &Value| {
            let number = |name: &str| entry[name].as_u64().unwrap();
            (text(&entry["view"]), text(&entry["key"]), number("position"), number("held"))
        };
        let list = self.get("/quarantine").await;
        let mut entries: Vec<_> = list.as_array().unwrap().iter().map(entry).collect();
        entries.sort();
        entries
    }

    fn post(&self, view: &str, key: &str, what: &str) -> Call {
        let key = key.replace(':', "%3A");
        Call::new(
            reqwest::Client::new().post(format!("{}/quarantine/{view}/{key}/{what}", self.projector.url)),
        )
    }

    async fn retry(&self, view: &str, key: &str) -> Answer {
        self.post(view, key, "retry").send().await
    }

    async fn released(&self, view: &str, key: &str) {
        let answer = self.retry(view, key).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({"outcome": "released"})));
    }

    async fn skipped(&self, view: &str, key: &str, reason: &str) {
        let answer = self.post(view, key, "skip").json(&json!({"reason": reason})).send().await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({"outcome": "released"})));
    }

    /// Every row is what the log folds to. Gives the number of keys in quarantine.
    async fn equals_the_log(&self) -> usize {
        let report = replay::verify(&self.log.log, &self.place.database_url, |_| ()).await.unwrap();
        assert!(report.differences.is_empty(), "{report:?}");
        report.views.iter().map(|view| view.quarantined).sum()
    }

    fn manager(&self) -> Manager {
        Manager::new(&self.place.database_url_as("projector"), ALL).unwrap()
    }

    /// Folds another build of the view, and switches to it.
    async fn rebuilt(&self, view: &str, accept_quarantine: bool) -> anyhow::Result<projector::Rebuilt> {
        let settings = Settings {
            which: Which::New,
            unknown_events: UnknownEvents::Quarantine,
            verify: Verify::Full,
            accept_quarantine,
            replaced_log: false,
            bytes_max: projector::REBUILD_BYTES_MAX,
        };
        self.manager().rebuild(&self.log.log, view, settings, &|_| ()).await
    }
}

fn id(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

fn entry(view: &str, key: impl ToString, position: u64, held: u64) -> (String, String, u64, u64) {
    (view.to_owned(), key.to_string(), position, held)
}

fn account_key(id: u128) -> String {
    format!("account:{}", self::id(id))
}

fn order_key(id: u128) -> String {
    format!("order:{}", self::id(id))
}

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
