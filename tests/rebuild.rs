//! Rebuilding a view: beside the build that is read, verified, switched to in one transaction, and back.

mod other_logs;
mod traffic;
mod versions;

use std::{
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::view::Definition;
use futures::StreamExt;
use projector::{Manager, Phase, Progress, Rebuilt, Settings, UnknownEvents, Verify, Which, registry};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, Service, World, programs, until},
    written_log::{Log, event, placed, registered},
};
use traffic::Traffic;

const ALL: &[Definition] = domain::views::ALL;
const CUSTOMERS: u128 = 20;
/// Every order costs as much, so that an answer can be told to be right from itself.
const CENTS: i64 = 100;

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
