//! `replay sql`, of a program that was built with it: the variable HEADWATER_REPLAY_SQL names one, as `.ci/run` does.
//! Without it, only what a program without SQL says is tested.

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;

use super::{
    as_of::{Folded, lines},
    signals::{SLOWLY, stop},
    *,
};
use crate::{harness::until, storm::random::Random};

/// None where there is no such program, which is said.
pub fn program() -> Option<PathBuf> {
    let program = std::env::var_os("HEADWATER_REPLAY_SQL").map(PathBuf::from);
    if program.is_none() {
        eprintln!("not tested: HEADWATER_REPLAY_SQL names no `replay` that was built with --features sql");
    }
    program
}

impl Desk {
    async fn sql(&self, program: &Path, arguments: &[&str]) -> Said {
        Said::by(&mut self.command_of(program, &[&["sql"], arguments].concat())).await
    }

    /// The rows that answer a query.
    async fn rows(&self, program: &Path, arguments: &[&str]) -> Vec<Value> {
        let said = self.sql(program, &[arguments, &["--format", "json"]].concat()).await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        lines(&said.out)
    }
}

#[tokio::test]
async fn a_program_without_sql_says_how_to_get_it() {
    let desk = Desk::new().await;
    desk.run(&["sql", "select 1"]).await.is_misused("--features sql");
}

#[tokio::test]
async fn the_tables_of_events_are_what_an_export_writes() {
    let Some(program) = program() else { return };
    let desk = Desk::with_events(200).await;
    desk.fine(&["export", "--out", "all", "--format", "jsonl"]).await;
    let expected = exported(&desk.path("all"));
    let types: BTreeSet<&str> =
        expected.values().map(|event| event["event_type"].as_str().unwrap()).collect();
    let mut found = BTreeMap::new();
    for event_type in &types {
        let query = format!("select * from {}", event_type.replace('-', "_"));
        let rows = desk.rows(&program, &[&query]).await;
        found.extend(rows.into_iter().map(|row| (row["position"].as_u64().unwrap(), row)));
    }
    assert_eq!(types.len(), 7);
    assert_eq!(found, expected);

    // Only some columns, in another order than the table's.
    let query = "select amount_cents, time, position from order.placed where position between 10 and 20 order by time desc";
    let rows = desk.rows(&program, &[query]).await;
    let expected: Vec<Value> = (10..=20)
        .rev()
        .filter(|position| expected[position]["event_type"] == "order.placed")
        .map(|position| expected[&position].clone())
        .map(|event| json!({"amount_cents": event["amount_cents"], "time": event["time"], "position": event["position"]}))
        .collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn views_and_events_are_as_of_one_moment() {
    let Some(program) = program() else { return };
    let desk = Desk::with_events(200).await;
    let raw = desk.raw().await;
    let mut random = Random::new(11, 0);
    for view in ["accounts", "orders", "customers", "daily_sales"] {
        let position = random.within(1..201);
        let (at, folded) = (position.to_string(), Folded::up_to(&raw, position));
        let key = if view == "daily_sales" { "day" } else { "id" };
        let query = format!("select * from {view} order by {key}");
        assert_eq!(
            desk.rows(&program, &["--as-of", &at, &query]).await,
            folded.rows(view),
            "{view} as of {at}"
        );

        // Joined with the events that it is folded from, nothing is over on either side.
        let query = "select count(*) as all, sum(o.amount_cents - p.amount_cents) as difference, max(p.position) as last
            from orders o full join order.placed p on p.aggregate_id = o.id";
        let joined = desk.rows(&program, &["--as-of", &at, query]).await.remove(0);
        assert_eq!(
            joined["all"].as_u64().unwrap() as usize,
            folded.rows("orders").len(),
            "{joined} as of {at}"
        );
        assert_eq!(joined.get("difference").and_then(Value::as_i64).unwrap_or(0), 0, "{joined}");
        assert!(joined.get("last").is_none_or(|last| last.as_u64().unwrap() <= position), "{joined}");
    }
}

#[tokio::test]
async fn answers_go_onto_the_terminal_and_into_files() {
    let Some(program) = program() else { return };
    let desk = Desk::with_events(40).await;
    let query = "select id, orders from customers order by id";
    let table = desk.sql(&program, &[query, "--limit", "2"]).await.out;
    assert!(table.starts_with("id ") && table.contains("… and 2 more"), "{table}");
    for name in ["c.csv", "c.parquet", "c.arrow", "c.jsonl"] {
        assert_eq!(desk.sql(&program, &[query, "--out", name]).await.code, Some(0));
        assert!(desk.path(name).metadata().unwrap().len() > 100, "{name}");
    }
    assert_eq!(fs::read_to_string(desk.path("c.csv")).unwrap().lines().count(), 5);
    let same = "select a.id, b.id from customers a join customers b on a.id = b.id";
    desk.sql(&program, &[same, "--out", "d.csv"])
        .await
        .is_misused("two columns of the answer are called `id`");
    assert!(!desk.path("d.csv").exists());
    let listed = desk.sql(&program, &[]).await.out;
    assert!(listed.contains("account.email_changed\n    position Int64\n"), "{listed}");
    for query in
        ["show tables", "describe order.placed", "explain select * from customers", "select 1 as one"]
    {
        assert_eq!(desk.sql(&program, &[query]).await.code, Some(0), "{query}");
    }
}

#[tokio::test]
async fn what_is_no_query_of_these_tables_is_refused() {
    let Some(program) = program() else { return };
    let desk = Desk::with_events(10).await;
    fs::write(desk.path("secret.csv"), "a,b\n1,2\n").unwrap();
    let secret = desk.path("secret.csv").display().to_string();
    let refused = async |query: &str, words: &str| desk.sql(&program, &[query]).await.is_misused(words);
    refused("select * from custmers", "there is no table `custmers`; there are account.closed, ").await;
    refused("select * from order.paid", "order.placed").await;
    refused("select cents from order.placed", "there is no column `cents`; there are position, time, ").await;
    refused("selct 1", "the query cannot be carried out").await;
    refused("select nonsense(1)", "nonsense").await;
    refused("select 1; select 2", "single SQL statement").await;
    for statement in [
        format!("create external table t stored as csv location '{secret}'"),
        format!("copy customers to '{secret}'"),
        "create table t as select 1".to_owned(),
        "create view v as select 1".to_owned(),
        "drop table customers".to_owned(),
        "insert into customers values (1)".to_owned(),
        "delete from customers".to_owned(),
        "set datafusion.catalog.location = '/'".to_owned(),
        format!("explain copy customers to '{secret}'"),
    ] {
        refused(&statement, "only queries are carried out").await;
    }
    for file in [
        secret.clone(),
        format!("file://{secret}"),
        "/etc/passwd".to_owned(),
        "http://127.0.0.1:1/x".to_owned(),
    ] {
        refused(&format!("select * from '{file}'"), "there is no table").await;
        refused(&format!("select * from \"{file}\""), "there is no table").await;
    }
    for function in ["read_csv", "read_parquet", "glob"] {
        refused(&format!("select * from {function}('{secret}')"), function).await;
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "a,b\n1,2\n");
    desk.sql(&program, &["select 1", "--as-of", "11"]).await.is_misused("is not in the log yet");
}

#[tokio::test]
async fn personal_values_are_masked_before_a_query_sees_them() {
    let Some(program) = program() else { return };
    let desk = Desk::with_events(20).await;
    fs::write(desk.path("key"), "a key of more than 16 bytes").unwrap();
    let mask = ["--mask", "personal", "--mask-key-file", "key"];
    let by_events =
        "select count(*) as n from account.registered r join account.email_changed c using (email)";
    assert_eq!(desk.rows(&program, &[&[by_events][..], &mask].concat()).await, [json!({"n": 0})]);
    let upper = "select upper(email) as email, length(email) as n from account.registered";
    for row in desk.rows(&program, &[&[upper][..], &mask].concat()).await {
        assert!(row["n"] == 32 && !row["email"].as_str().unwrap().contains('@'), "{row}");
    }
    let drop = ["--drop", "email,username"];
    let of_5 = ["select * from accounts", "--as-of", "5"];
    assert_eq!(desk.rows(&program, &of_5).await[0]["email"], "new1@example.org");
    let rows = desk.rows(&program, &[&of_5[..], &drop].concat()).await;
    assert!(rows.len() == 1 && rows.iter().all(|row| row.get("email").is_none()), "{rows:?}");
    let query = &[&["select email from accounts"][..], &drop].concat();
    desk.sql(&program, query).await.is_misused("there is no column `email`; there are id, ");
    desk.sql(&program, &["select 1", "--drop", "e-mail"]).await.is_misused("no column `e-mail`");
}

#[tokio::test]
async fn a_query_that_needs_more_memory_than_it_may_have_says_so_and_keeps_nothing_on_disk() {
    let Some(program) = program() else { return };
    let desk = Desk::new().await;
    let sorted =
        "select value from generate_series(1, 1000000) order by value % 1000, value desc offset 999999";
    let within = async |memory: &str, query: &str| {
        let arguments = ["sql", query, "--memory-mb", memory, "--format", "csv"];
        Said::by(desk.command_of(&program, &arguments).env("TMPDIR", desk.folder.path())).await
    };
    assert_eq!(within("200", sorted).await.out, "value\n999\n");
    within("10", sorted).await.fails("more than 10 MB of memory (--memory-mb");
    assert_eq!(fs::read_dir(desk.folder.path()).unwrap().count(), 0, "something is left");
}

#[tokio::test]
async fn only_the_stretch_of_the_log_that_a_query_names_is_read() {
    let Some(program) = program() else { return };
    let desk = Desk::with_many_events().await;
    let (first, last) = (MANY_EVENTS - 5, "2026-01-01T00:00:09Z");
    for (condition, rows) in [
        (format!("position > {first}"), 2),
        (format!("position < 5 and time < '{last}'"), 1),
        (format!("time >= '2026-01-01T01:39:56Z' and position <= {MANY_EVENTS}"), 2),
        (format!("time between '2026-01-01T00:00:01Z' and '{last}'"), 4),
    ] {
        let query = format!("select amount_cents from order.placed where {condition}");
        let asked = [&[query.as_str()][..], &SLOWLY].concat();
        let found = tokio::time::timeout(Duration::from_secs(20), desk.rows(&program, &asked)).await;
        let found = found.unwrap_or_else(|_| panic!("all of the log is read where {condition}"));
        assert_eq!(found.len(), rows, "{condition}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_ends_the_queries_that_need_it() {
    let Some(program) = program() else { return };
    let mut desk = Desk::with_events(10).await;
    desk.append(&[event(11, 10, 1, "account.exploded", json!({}))]).await;
    // Of a type that has no table.
    let count = "select count(*) as n from account.registered";
    assert_eq!(desk.rows(&program, &[count]).await, [json!({"n": 1})]);
    let mut broken = registered(12, 12, "eve");
    broken["data"]["email"] = json!(7);
    desk.append(&[broken]).await;
    desk.sql(&program, &[count]).await.fails("event 12");
    desk.sql(&program, &["select * from accounts"]).await.fails("event 11 cannot be read");
    assert_eq!(desk.rows(&program, &["select count(*) as n from order.placed"]).await, [json!({"n": 4})]);
}

#[tokio::test]
async fn a_query_reads_the_mirror_that_it_is_told_to_read() {
    let Some(program) = program() else { return };
    let desk = Desk::with_a_mirror_alone().await;
    let query =
        "select (select count(*) from accounts) as accounts, (select count(*) from order.placed) as placed";
    desk.sql(&program, &[query]).await.fails("--namespace");
    let rows = desk.rows(&program, &[query, "--stream", &desk.mirror()]).await;
    assert_eq!(rows, [json!({"accounts": 3, "placed": 12})]);
}

#[tokio::test]
async fn a_query_that_is_stopped_ends_with_130_and_leaves_no_file() {
    let Some(program) = program() else { return };
    let desk = Desk::with_many_events().await;
    let query = ["sql", "select * from order.placed", "--out", "placed.csv"];
    let mut command = desk.command_of(&program, &[&query[..], &SLOWLY].concat());
    let running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("something is written", async || desk.path(".placed.csv.aside").exists()).await;
    assert_eq!(stop(running, Signal::INT).await, Some(130));
    let left: Vec<_> = fs::read_dir(desk.folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_reader_of_answers_that_has_read_enough_ends_the_query_quietly() {
    let Some(program) = program() else { return };
    let desk = Desk::with_events(400).await;
    let mut query = desk.command_of(&program, &["sql", "select * from order.placed", "--format", "csv"]);
    let mut query = query.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(query.stdout.take());
    let output = query.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_source_are_held_back_together() {
    let pace = replay::Pace::new(Some(10));
    let other = pace.clone();
    let begin = tokio::time::Instant::now();
    pace.taken(20);
    other.taken(20);
    pace.wait().await;
    assert_eq!(begin.elapsed().as_secs(), 4);
}
