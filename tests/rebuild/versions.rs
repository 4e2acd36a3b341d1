//! A program with a newer version of a view.

use std::sync::atomic::Ordering;

use domain::{
    Event, Kind, Recorded, Timestamp, View,
    account::AccountId,
    order,
    view::{Definition, Touch},
    views::Customers,
};
use reqwest::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    ALL, CUSTOMERS, FORMER, builds, execute, get, manager, place, rebuilt, rows, traffic::Traffic, view,
    written,
};
use crate::{
    harness::{World, until},
    written_log::placed,
};

/// Customers in a next version, in which each order counts double.
struct Double;

impl View for Double {
    const NAME: &'static str = Customers::NAME;
    const KEY: &'static str = Customers::KEY;
    const VERSION: i32 = 2;
    const AGGREGATES: &'static [Kind] = Customers::AGGREGATES;
    type Row = <Customers as View>::Row;

    fn touches(recorded: &Recorded) -> Touch {
        Customers::touches(recorded)
    }

    fn apply(row: Option<Self::Row>, recorded: &Recorded) -> Option<Self::Row> {
        let before = row.as_ref().map_or(0, |row| row.spent_cents);
        let mut row = Customers::apply(row, recorded)?;
        row.spent_cents += row.spent_cents - before;
        Some(row)
    }
}

const DOUBLE: &[Definition] = &[Definition::of::<Double>()];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_version_takes_over_in_one_moment_while_the_old_program_runs() {
    const ORDERS: u64 = 4_000;
    let place = place().await;
    written(&place, ORDERS).await;
    let world = World::at(place).await;
    let place = &world.place;
    world.verify().await;
    let traffic = Traffic::start(&world, ORDERS / CUSTOMERS as u64);
    traffic.goes_on().await;
    let newer = place.projector_of(DOUBLE).await;
    until("readers see the new version", async || traffic.shared.counts.load(Ordering::Relaxed) == 2).await;
    traffic.goes_on().await;

    // The old program says what is the matter, folds its other views, and leaves this one alone.
    until("the old projector has stopped", async || {
        view(&world.projector, "customers").await["state"] == "stopped"
    })
    .await;
    let old = view(&world.projector, "customers").await;
    let error = old["last_error"].as_str().unwrap();
    assert!(error.contains("version 2 of the view is in use, this program folds version 1"), "{old}");
    let ready = get(&format!("{}/health/ready", world.projector.url)).await;
    assert!(ready.status == 503 && ready.text.contains("version 2 of the view is in use"), "{ready:?}");
    assert_eq!(view(&world.projector, "orders").await["state"], "active");
    let stands = "select position from checkpoints where view = 'customers' and build = 1";
    let before = rows(place, stands).await;
    traffic.goes_on().await;
    traffic.stop().await;
    assert_eq!(rows(place, stands).await, before);
    let new = view(&newer, "customers").await;
    assert_eq!((&new["state"], &new["version"], &new["build"]), (&json!("active"), &json!(2), &json!(2)));

    // The old program can take it back, and says so.
    assert!(error.contains("projector rollback customers"), "{error}");
    let mut newer = newer;
    newer.stop().await;
    let back = rebuilt(place, "customers", FORMER).await.unwrap();
    assert_eq!((back.from, back.to), (2, 1));
    world.verify().await;
}

/// Customers with one column more.
struct Biggest;

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct BiggestRow {
    id: AccountId,
    orders: u32,
    repeat_orders: u32,
    first_order_at: Timestamp,
    last_order_at: Timestamp,
    spent_cents: i64,
    biggest_cents: i64,
}

impl View for Biggest {
    const NAME: &'static str = "customers";
    const KEY: &'static str = "id";
    const VERSION: i32 = 2;
    const AGGREGATES: &'static [Kind] = &[Kind::Order];
    type Row = BiggestRow;

    fn touches(recorded: &Recorded) -> Touch {
        Customers::touches(recorded)
    }

    fn apply(row: Option<BiggestRow>, recorded: &Recorded) -> Option<BiggestRow> {
        let Event::Order(order::Event::Placed(purchase)) = &recorded.event else { return row };
        let cents = purchase.amount_cents.get();
        let row = row.unwrap_or(BiggestRow {
            id: purchase.account_id,
            orders: 0,
            repeat_orders: 0,
            first_order_at: purchase.placed_at,
            last_order_at: purchase.placed_at,
            spent_cents: 0,
            biggest_cents: 0,
        });
        Some(BiggestRow {
            orders: row.orders + 1,
            repeat_orders: row.orders,
            spent_cents: row.spent_cents + cents,
            biggest_cents: row.biggest_cents.max(cents),
            ..row
        })
    }
}

const BIGGEST: &[Definition] = &[Definition::of::<Biggest>()];

#[tokio::test]
async fn a_new_version_with_another_column_waits_for_its_table_and_is_then_in_the_catalog() {
    let place = place().await;
    let mut log = written(&place, 100).await;
    let (position, other) = (log.next(), Uuid::from_u128(7));
    log.append(&[placed(position, 9, 7, 5_000)]).await;
    let world = World::at(place).await;
    let place = &world.place;
    world.verify().await;
    let newer = place.projector_of(BIGGEST).await;
    until("the newer projector has stopped", async || view(&newer, "customers").await["state"] == "stopped")
        .await;
    let error = view(&newer, "customers").await["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("customers_2: fields without a column [\"biggest_cents\"]"), "{error}");
    // The old one goes on.
    world.placed(other, 1, "1997-01-01").await;
    world.verify().await;
    assert_eq!(view(&world.projector, "customers").await["state"], "active");

    let mut newer = newer;
    newer.stop().await;
    manager(place, ALL).drop_builds("customers").await.unwrap();
    execute(
        place,
        "create table customers_v2 (like customers including all);
         alter table customers_v2 add column biggest_cents bigint not null;
         create index customers_v2_by_biggest on customers_v2 (biggest_cents, id);
         select register_build('customers', 2, 'customers_v2');",
    )
    .await;
    let path = "/customers?sort=-biggest_cents&limit=1&fields=id,biggest_cents";
    assert_eq!(world.get(path).send().await.problem(), (400, "unknown-field"));
    let newer = place.projector_of(BIGGEST).await;
    until("the new version is in use", async || view(&newer, "customers").await["state"] == "active").await;
    // Without a restart, and at once: the switch is signalled.
    until("the catalog has the column", async || world.get(path).send().await.status == StatusCode::OK).await;
    let list = world.get(path).send().await;
    assert_eq!(list.body["items"], json!([{"id": other, "biggest_cents": 5_000}]));
    let catalog = world.get("/").send().await.text;
    assert!(catalog.contains("biggest_cents"), "{catalog}");
    assert_eq!(builds(place, "customers").await[1], (2, "customers_v2".to_owned(), true, true));
}
