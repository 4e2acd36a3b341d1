//! Rebuilding a view: beside the build that is read, verified, switched to in one transaction, and back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    Event, Kind, Recorded, Timestamp, View,
    account::AccountId,
    order,
    view::{Definition, Touch},
    views::Customers,
};
use futures::StreamExt;
use projector::{Manager, Phase, Progress, Rebuilt, Settings, UnknownEvents, Verify, Which, registry};
use reqwest::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{interval, timeout},
};
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, Service, World, programs, until, verify},
    written_log::{Log, event, placed, registered},
};

const ALL: &[Definition] = domain::views::ALL;
const CUSTOMERS: u128 = 20;
/// Every order costs as much, so that an answer can be told to be right from itself.
const CENTS: i64 = 100;
/// Each reader reads so often: all the time, and yet the machine has time for the rebuild.
const PACE: Duration = Duration::from_millis(10);

const NEW: Settings = Settings {
    which: Which::New,
    unknown_events: UnknownEvents::Quarantine,
    verify: Verify::Sample,
    accept_quarantine: false,
    replaced_log: false,
    bytes_max: projector::REBUILD_BYTES_MAX,
};
const FORMER: Settings = Settings { which: Which::Former, verify: Verify::None, ..NEW };

/// Twenty accounts, and then nothing but orders.
async fn written(place: &Place, orders: u64) -> Log {
    let mut log = Log::at(place).await;
    let accounts: Vec<Value> =
        (1..=CUSTOMERS).map(|id| registered(id as u64, id, &format!("a{id}"))).collect();
    log.append(&accounts).await;
    let numbers: Vec<u64> = (0..orders).collect();
    for frame in numbers.chunks(100) {
        let first = log.next();
        let order = |n: &u64| {
            let customer = 1 + u128::from(*n) % CUSTOMERS;
            placed(first + n - frame[0], 1_000 + u128::from(*n), customer, CENTS)
        };
        log.append(&frame.iter().map(order).collect::<Vec<_>>()).await;
    }
    log
}

async fn place() -> Place {
    Place::new(Servers::shared().await).await
}

fn manager(place: &Place, views: &'static [Definition]) -> Manager {
    Manager::new(&place.database_url_as("projector"), views).unwrap()
}

async fn rebuilt(place: &Place, view: &str, settings: Settings) -> anyhow::Result<Rebuilt> {
    let (manager, log) = (manager(place, ALL), place.log().await);
    let rebuilding = manager.rebuild(&log, view, settings, &|_| ());
    timeout(Duration::from_secs(60), rebuilding).await.expect("a rebuild ends")
}

/// Number, table, and whether it is in use and was.
async fn builds(place: &Place, view: &str) -> Vec<(i32, String, bool, bool)> {
    let builds = manager(place, ALL).builds(Some(view)).await.unwrap().remove(0).1;
    builds.into_iter().map(|build| (build.number, build.table, build.is_in_use, build.was_used)).collect()
}

/// The rows of a query, as JSON.
async fn rows(place: &Place, select: &str) -> Vec<Value> {
    let sql = AssertSqlSafe(format!("select to_json(r)::text from ({select}) r"));
    let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut place.database().await).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

async fn execute(place: &Place, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut place.database().await).await.unwrap();
}

async fn get(url: &str) -> Answer {
    Call::new(reqwest::Client::new().get(url)).send().await
}

/// How a projector sees a view.
async fn view(projector: &Service, name: &str) -> Value {
    let views = get(&format!("{}/views", projector.url)).await.body;
    views.as_array().unwrap().iter().find(|view| view["view"] == name).unwrap().clone()
}

/// Customers who order, and readers who look at what comes of it, until it is stopped.
struct Traffic {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    commands: String,
    queries: String,
    http: reqwest::Client,
    stop: AtomicBool,
    /// For each customer, the orders that were acknowledged.
    acknowledged: Mutex<BTreeMap<u128, u64>>,
    last_position: AtomicU64,
    answers: AtomicU64,
    /// What each order counts by now: a reader that saw it change does not see it change back.
    counts: AtomicU64,
}

impl Traffic {
    fn start(world: &World, orders_each: u64) -> Self {
        let shared = Arc::new(Shared {
            commands: world.commands.url.clone(),
            queries: world.queries.url.clone(),
            http: reqwest::Client::new(),
            stop: AtomicBool::new(false),
            acknowledged: Mutex::new((1..=CUSTOMERS).map(|id| (id, orders_each)).collect()),
            last_position: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            counts: AtomicU64::new(1),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().order());
        tasks.spawn(shared.clone().read_rows());
        tasks.spawn(shared.clone().read_lists(false));
        tasks.spawn(shared.clone().read_lists(true));
        Self { shared, tasks }
    }

    /// Everybody has had so many more answers.
    async fn goes_on(&self) {
        let answers = || self.shared.answers.load(Ordering::Relaxed);
        let before = answers();
        until("queries were answered", async || answers() > before + 60).await;
    }

    async fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A task that found something wrong has panicked.
        self.tasks.join_all().await;
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn order(self: Arc<Self>) {
        let mut customer = 1;
        // Without a pause: whoever waits for one to come waits for ever.
        while self.goes_on() {
            let body = json!({"account_id": Uuid::from_u128(customer), "quantity": 1, "amount_cents": CENTS,
                "currency": "USD", "placed_at": "1997-01-01T12:00:00Z"});
            let order =
                Call::new(self.http.post(format!("{}/orders/place", self.commands))).json(&body).send().await;
            assert_eq!(order.status, StatusCode::CREATED, "{order:?}");
            *self.acknowledged.lock().unwrap().get_mut(&customer).unwrap() += 1;
            self.last_position.store(order.body["position"].as_u64().unwrap(), Ordering::Release);
            customer = 1 + customer % CUSTOMERS;
        }
    }

    async fn get(&self, path: &str, least: Option<u64>) -> (u64, Value) {
        let mut call = Call::new(self.http.get(format!("{}{path}", self.queries)));
        if let Some(least) = least {
            call = call.header("Min-Position", least);
        }
        let answer = call.send().await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        self.answers.fetch_add(1, Ordering::Relaxed);
        let position = answer.header("log-position").parse().unwrap();
        assert!(position >= least.unwrap_or_default(), "{answer:?}");
        (position, answer.body)
    }

    /// How much of the answer is what one order counts, which is the same in all rows.
    fn counts(&self, row: &Value) -> u64 {
        let (orders, cents) = (row["orders"].as_u64().unwrap(), row["spent_cents"].as_u64().unwrap());
        assert_eq!(cents % (orders * CENTS as u64), 0, "{row}");
        cents / (orders * CENTS as u64)
    }

    /// What was acknowledged is in the answer.
    async fn read_rows(self: Arc<Self>) {
        let (mut customer, mut before) = (1, 0);
        let mut pace = interval(PACE);
        while self.goes_on() {
            pace.tick().await;
            let least = self.last_position.load(Ordering::Acquire);
            let acknowledged = self.acknowledged.lock().unwrap()[&customer];
            // The order that was counted just now is at the latest the next one.
            let path = format!("/customers/{}?fields=orders,spent_cents", Uuid::from_u128(customer));
            let (position, row) = self.get(&path, Some(least)).await;
            assert!(row["orders"].as_u64().unwrap() + 1 >= acknowledged, "{row} of {acknowledged}");
            self.counts(&row);
            assert!(position >= before, "from {before} back to {position}");
            (customer, before) = (1 + customer % CUSTOMERS, position);
        }
    }

    /// Each list has exactly the orders up to its position.
    async fn read_lists(self: Arc<Self>, is_patient: bool) {
        let (mut before, mut counted) = (0, 1);
        let mut pace = interval(PACE);
        while self.goes_on() {
            pace.tick().await;
            let least = is_patient.then(|| self.last_position.load(Ordering::Acquire));
            let path = "/customers?sort=-spent_cents&limit=100&fields=id,orders,spent_cents";
            let (position, list) = self.get(path, least).await;
            let items = list["items"].as_array().unwrap();
            let orders: u64 = items.iter().map(|row| row["orders"].as_u64().unwrap()).sum();
            assert_eq!(orders, position - CUSTOMERS as u64, "at {position}: {list}");
            let counts = self.counts(&items[0]);
            assert!(items.iter().all(|row| self.counts(row) == counts), "old and new mixed: {list}");
            assert!(position >= before, "from {before} back to {position}");
            assert!(counts >= counted, "what an order counts went back from {counted} to {counts}");
            (before, counted) = (position, counts);
            self.counts.fetch_max(counts, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queries_and_commands_go_on_while_a_view_is_rebuilt_and_rolled_back_and_the_former_dropped() {
    const ORDERS: u64 = 8_000;
    let place = place().await;
    written(&place, ORDERS).await;
    let world = World::at(place).await;
    let place = &world.place;
    world.verify().await;
    let nats = place.nats().await;
    let mut signals = nats.subscribe(format!("{}.signals.customers", place.namespace)).await.unwrap();
    nats.flush().await.unwrap();
    let traffic = Traffic::start(&world, ORDERS / CUSTOMERS as u64);
    traffic.goes_on().await;

    let (manager, log) = (manager(place, ALL), place.log().await);
    let seen = Mutex::new(Vec::new());
    let progress = |progress: Progress| seen.lock().unwrap().push(progress);
    let rebuilt = manager.rebuild(&log, "customers", NEW, &progress);
    let rebuilt = timeout(Duration::from_secs(60), rebuilt).await.expect("a rebuild ends").unwrap();
    assert_eq!((rebuilt.from, rebuilt.to, rebuilt.quarantined), (1, 2, 0));
    assert_eq!(rebuilt.rows_verified, CUSTOMERS as u64);
    assert!(rebuilt.position > ORDERS && rebuilt.events == rebuilt.position, "{rebuilt:?}");
    let seen = seen.into_inner().unwrap();
    for phase in [Phase::Folding, Phase::Indexing, Phase::Verifying, Phase::Switching] {
        assert!(seen.iter().any(|progress| progress.phase == phase), "no {phase:?} in {seen:?}");
    }
    assert!(
        seen.iter().all(|progress| progress.build == 2 && progress.position <= progress.head),
        "{seen:?}"
    );
    let in_use = |build: i32, table: &str, is: bool| (build, table.to_owned(), is, true);
    assert_eq!(
        builds(place, "customers").await,
        [in_use(1, "customers", false), in_use(2, "customers_2", true)]
    );
    loop {
        let signal: Value = serde_json::from_slice(&signals.next().await.unwrap().payload).unwrap();
        if signal["reset"] == true {
            assert!(signal["position"].as_u64().unwrap() >= rebuilt.position, "{signal}");
            break;
        }
    }
    traffic.goes_on().await;
    // The other builds' projectors are gone; what is read moves on in the new table alone.
    let old = "select position from checkpoints where view = 'customers' and build = 1";
    let stands = rows(place, old).await;
    traffic.goes_on().await;
    assert_eq!(rows(place, old).await, stands);

    let back = manager.rebuild(&log, "customers", FORMER, &|_| ()).await.unwrap();
    assert_eq!((back.from, back.to), (2, 1));
    traffic.goes_on().await;
    let dropped = manager.drop_builds("customers").await.unwrap();
    assert_eq!(dropped.iter().map(|build| build.number).collect::<Vec<_>>(), [2]);
    traffic.goes_on().await;
    traffic.stop().await;
    assert_eq!(builds(place, "customers").await, [in_use(1, "customers", true)]);
    assert_eq!(rows(place, "select to_regclass('customers_2') as t").await, [json!({"t": null})]);
    world.verify().await;

    let build = &manager.builds(Some("customers")).await.unwrap()[0].1[0];
    let error = registry::drop_build(&mut place.database().await, "customers", build).await.unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    assert!(manager.drop_builds("customers").await.unwrap().is_empty());
    world.verify().await;
}

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

/// The indexes of a table, without their own and the table's name.
async fn indexes(place: &Place, table: &str) -> Vec<String> {
    let select = format!(
        "select replace(replace(pg_get_indexdef(i.indexrelid), n.relname, 'INDEX'), '{table} ', 'TABLE ') as index,
            i.indisprimary, i.indisvalid
         from pg_index i join pg_class n on n.oid = i.indexrelid where i.indrelid = '{table}'::regclass order by 1"
    );
    rows(place, &select).await.iter().map(ToString::to_string).collect()
}

/// Begins a rebuild, and drops it when it says to be in this phase, at least at this position.
async fn cut_off(place: &Place, view: &str, settings: Settings, phase: Phase, least: u64) {
    let (reached, is_reached) = (Notify::new(), AtomicBool::new(false));
    let progress = |progress: Progress| {
        let is_there = progress.phase == phase && progress.position >= least;
        if is_there && !is_reached.swap(true, Ordering::Relaxed) {
            reached.notify_one();
        }
    };
    let (manager, log) = (manager(place, ALL), place.log().await);
    tokio::select! {
        biased;
        () = reached.notified() => {}
        _ = manager.rebuild(&log, view, settings, &progress) => panic!("not cut off"),
    }
}

#[tokio::test]
async fn a_rebuild_that_was_cut_off_anywhere_is_continued_and_has_all_indexes() {
    let place = place().await;
    let head = written(&place, 8_500).await.head.position;
    for (view, build, phase, least) in [
        ("orders", 2, Phase::Folding, 8_000),
        ("customers", 2, Phase::Indexing, 0),
        ("accounts", 2, Phase::Verifying, 0),
        ("daily_sales", 2, Phase::Switching, 0),
        ("orders", 3, Phase::Folding, 0),
    ] {
        // So little memory that it takes several transactions.
        let settings = Settings { verify: Verify::Full, bytes_max: 1, ..NEW };
        cut_off(&place, view, settings, phase, least).await;
        let unfinished = builds(&place, view).await.pop().unwrap();
        assert_eq!(unfinished, (build, format!("{view}_{build}"), false, false), "{phase:?}");
        let rebuilt = rebuilt(&place, view, settings).await.unwrap();
        assert_eq!((rebuilt.from, rebuilt.to, rebuilt.position), (build - 1, build, head));
        match (phase, least) {
            // What was being written may be there or not.
            (Phase::Folding, 0) => assert!(rebuilt.events <= head, "{rebuilt:?}"),
            (Phase::Folding, _) => assert!(rebuilt.events < head, "{rebuilt:?}"),
            _ => assert_eq!(rebuilt.events, 0, "{phase:?}"),
        }
        let count = rows(&place, &format!("select count(*) from {view}_{build}")).await;
        assert_eq!(count, [json!({"count": rebuilt.rows_verified})], "{phase:?}");
        let table = format!("{view}_{build}");
        assert_eq!(indexes(&place, &table).await, indexes(&place, view).await, "{phase:?}");
        assert_eq!(rows(&place, "select from builds where indexes_to_make <> '{}'").await.len(), 0);
    }
    assert_eq!(rows(&place, "select count(*) from orders_3").await, [json!({"count": 8_500})]);
    assert!(replay::verify(&place.log().await, &place.database_url, |_| ()).await.unwrap().is_clean());
}

#[tokio::test]
async fn a_build_that_is_not_what_the_log_says_is_never_switched_to() {
    let place = place().await;
    written(&place, 200).await;
    // As if it had been folded wrongly: it is damaged between folding and comparing.
    cut_off(&place, "customers", NEW, Phase::Verifying, 0).await;
    for (verify, damage, repair) in [
        (
            Verify::Sample,
            "update customers_2 set spent_cents = spent_cents + 1 where id = lpad('7', 32, '0')::uuid",
            "update customers_2 set spent_cents = spent_cents - 1 where id = lpad('7', 32, '0')::uuid",
        ),
        (
            Verify::Full,
            "create table lost as select * from customers_2 where id = lpad('8', 32, '0')::uuid;
             delete from customers_2 where id = lpad('8', 32, '0')::uuid",
            "insert into customers_2 select * from lost",
        ),
        (
            Verify::Sample,
            "insert into customers_2 select gen_random_uuid(), 1, 1, now(), now(), 1",
            "delete from customers_2 where spent_cents = 1",
        ),
    ] {
        execute(&place, damage).await;
        let error = rebuilt(&place, "customers", Settings { verify, ..NEW }).await.unwrap_err().to_string();
        assert!(error.contains("differs from the log in 1"), "{error}");
        assert!(builds(&place, "customers").await[0].2, "the old one is in use");
        execute(&place, repair).await;
    }
    assert_eq!(rebuilt(&place, "customers", NEW).await.unwrap().rows_verified, 20);
}

/// A log may be replaced by one that has less than was folded, as much, or more.
#[tokio::test]
async fn a_log_that_is_replaced_while_it_is_followed_is_noticed_and_the_views_rebuilt_from_it_when_told_to() {
    let place = place().await;
    let mut log = written(&place, 80).await;
    let projector = place.projector().await;
    let queries = place.query_service().await;
    verify(&place).await;
    let health = format!("{}/health/ready", projector.url);
    for (build, before, now) in [(2, 80, 5), (3, 5, 5), (4, 5, 300)] {
        log.replace().await;
        log = written(&place, now).await;
        until("the projector says what is wrong with every view", async || {
            let answer = get(&health).await.body;
            let reasons = answer["detail"].as_str().unwrap_or_default();
            reasons.matches("replaced or lost its end").count() == ALL.len()
        })
        .await;
        let old = rows(&place, &format!("select sum(orders) from {}", table_in_use(&place).await)).await;
        assert_eq!(old, [json!({"sum": before})], "nothing is folded on");

        for view in ALL {
            let error = rebuilt(&place, view.name, NEW).await.unwrap_err().to_string();
            assert!(error.contains("--replaced-log"), "{error}");
            let settings = Settings { replaced_log: true, ..NEW };
            let rebuilt = rebuilt(&place, view.name, settings).await.unwrap();
            assert_eq!((rebuilt.to, rebuilt.position), (build, log.head.position));
        }
        verify(&place).await;
        until("the projector is ready", async || get(&health).await.status == StatusCode::OK).await;
        let list = format!("{}/customers?sort=-spent_cents&fields=orders&limit=100", queries.url);
        until("queries say what the new log says", async || {
            let list = get(&list).await;
            assert_eq!(list.status, StatusCode::OK, "{list:?}");
            let rows = list.body["items"].as_array().unwrap().iter();
            rows.map(|row| row["orders"].as_u64().unwrap()).sum::<u64>() == now
        })
        .await;
    }
}

async fn table_in_use(place: &Place) -> String {
    builds(place, "customers").await.into_iter().find(|(_, _, in_use, _)| *in_use).unwrap().1
}

/// A reader that is told of frames all the time, none of which is new to it, looks what has become of its own.
#[tokio::test]
async fn a_shorter_log_is_noticed_while_it_is_written_on() {
    const FRAMES: u64 = 400;
    let place = place().await;
    let mut log = Log::at(&place).await;
    let append = async |log: &mut Log| {
        let position = log.next();
        log.append(&[registered(position, position.into(), &format!("a{position}"))]).await;
    };
    for _ in 0..FRAMES {
        append(&mut log).await;
    }
    let projector = place.projector().await;
    verify(&place).await;
    log.replace().await;
    let is_noticed = async {
        until("it is noticed", async || {
            get(&format!("{}/health/ready", projector.url)).await.text.contains("replaced or lost its end")
        })
        .await;
    };
    let mut written_on = async || -> Infallible {
        loop {
            append(&mut log).await;
        }
    };
    tokio::select! {
        () = is_noticed => {}
        never = written_on() => match never {},
    }
    let frames = log.head.sequence;
    assert!(frames < FRAMES, "noticed only when the new log had as many frames: {frames}");
}

/// A build that was begun on the old log, and an event that was skipped there, have no meaning in the new one.
#[tokio::test]
async fn what_was_begun_on_the_old_log_is_begun_anew_on_the_new_one() {
    let place = place().await;
    let mut log = written(&place, 40).await;
    let projector = place.projector().await;
    verify(&place).await;
    cut_off(&place, "customers", NEW, Phase::Verifying, 0).await;
    execute(
        &place,
        "insert into skipped_events (view, key, position, event, error, reason)
         values ('customers', lpad('1', 32, '0')::uuid::text, 21, '{}', 'poison', 'it was poison in the old log')",
    )
    .await;
    log.replace().await;
    let log = written(&place, 60).await;
    let settings = Settings { replaced_log: true, verify: Verify::Full, ..NEW };
    let rebuilt = rebuilt(&place, "customers", settings).await.unwrap();
    assert_eq!((rebuilt.to, rebuilt.events, rebuilt.rows_verified), (2, log.head.position, 20));
    assert_eq!(rows(&place, "select sum(orders) from customers_2").await, [json!({"sum": 60})]);
    drop(projector);
}

#[tokio::test]
async fn the_program_rebuilds_lists_goes_back_and_drops() {
    let place = place().await;
    let mut log = written(&place, 60).await;
    let position = log.next();
    log.append(&[event(position, 1, 1, "account.exploded", json!({}))]).await;
    let projector = place.projector().await;
    until("the key is in quarantine", async || rows(&place, "select key from quarantine").await.len() == 1)
        .await;
    let path = programs().await.join("projector");
    let run = async |arguments: &[&str], needs_log: bool| {
        let mut command = Command::new(&path);
        command.args(arguments).args(["--database-url", &place.database_url_as("projector")]);
        if needs_log {
            command.args([
                "--nats-url",
                &place.servers.nats.url_as("projector"),
                "--namespace",
                &place.namespace,
            ]);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    };
    let says = async |arguments: &[&str], needs_log: bool, words: &[&str]| {
        let (is_well, text) = run(arguments, needs_log).await;
        assert!(is_well, "{arguments:?}: {text}");
        for words in words {
            assert!(text.contains(words), "{arguments:?}: no `{words}` in {text}");
        }
    };
    says(
        &["rebuild", "customers", "--verify", "full"],
        true,
        &[
            "81 events in",
            "20 rows compared and equal",
            "build 2 is in use from position 81 on; build 1 was before",
        ],
    )
    .await;
    says(&["builds", "customers"], false, &["customers_2", "in use", "former"]).await;
    says(&["rollback", "customers"], true, &["build 1 is in use from position 81 on; build 2 was before"])
        .await;
    says(&["rebuild", "accounts"], true, &["1 keys are in quarantine: projector quarantine list accounts"])
        .await;
    let key = format!("account:{}", Uuid::from_u128(1));
    says(&["quarantine", "list"], false, &[&key, "account.exploded", "at position 81"]).await;
    let (_, json) = run(&["quarantine", "list", "accounts", "--json"], false).await;
    let entries: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        entries.iter().map(|entry| &entry["in_use"]).collect::<Vec<_>>(),
        [&json!(false), &json!(true)]
    );
    let (is_released, text) = run(&["quarantine", "retry", "accounts", &key], false).await;
    assert!(!is_released && text.contains("still in quarantine after 2 attempts"), "{text}");
    let skip = ["quarantine", "skip", "accounts", key.as_str(), "--reason", "noise"];
    says(&skip, false, &["released"]).await;
    says(&["drop", "customers"], false, &["dropped build 2 of customers, table customers_2"]).await;
    says(&["drop", "customers"], false, &["customers has no build but the one in use"]).await;
    let (is_well, text) = run(&["rollback", "customers"], true).await;
    assert!(!is_well && text.contains("nothing to go back to"), "{text}");
    let (is_well, text) = run(&["rebuild", "costumers"], true).await;
    assert!(!is_well && text.contains("there is no view `costumers`; there are accounts"), "{text}");
    drop(projector);
}
