//! Queries over what commands have written.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};

use crate::harness::{Place, Servers, World, until};

fn column(body: &Value, name: &str) -> Vec<Value> {
    body["items"].as_array().unwrap().iter().map(|item| item[name].clone()).collect()
}

#[tokio::test]
async fn an_account_is_found_by_email_and_by_username() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    world.registered("bob").await;
    for filter in ["email=ada@example.org", "username=ada"] {
        let found =
            world.get(&format!("/accounts?{filter}&fields=id")).header("Min-Position", 2).send().await;
        assert_eq!(found.body["items"], json!([{ "id": ada }]));
    }
}

#[tokio::test]
async fn a_cursor_walks_the_newest_orders_of_an_account_without_gap_or_repeat() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let eve = world.registered("eve").await;
    let mut last = 0;
    for cents in 0..25 {
        // Five orders a day: the day alone is no order, and the key decides between equals.
        last = world.placed(ada, cents, &format!("1997-01-{:02}", 1 + cents / 5)).await.body["position"]
            .as_u64()
            .unwrap();
        world.placed(eve, 999, "1997-01-01").await;
    }
    let mut seen: Vec<Value> = Vec::new();
    let mut days: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path =
            format!("/orders?account_id={ada}&sort=-placed_at&limit=4&fields=amount_cents,placed_at{cursor}");
        let page = world.get(&path).header("Min-Position", last).send().await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        seen.extend(column(&page.body, "amount_cents"));
        days.extend(column(&page.body, "placed_at"));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(days.windows(2).all(|pair| pair[0].as_str() >= pair[1].as_str()), "{days:?}");
    let mut seen: Vec<i64> = seen.iter().map(|cents| cents.as_i64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..25).collect::<Vec<i64>>());
}

#[tokio::test]
async fn only_the_fields_asked_for_come_in_the_order_asked_for() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let read = world.get(&format!("/accounts/{ada}?fields=status,id")).header("Min-Position", 1).send().await;
    assert_eq!(read.text, format!(r#"{{"status":"active","id":"{ada}"}}"#));
    let list = world.get("/accounts?status=active&sort=-created_at&fields=username").send().await;
    assert_eq!(list.body["items"], json!([{"username": "ada"}]));
}

#[tokio::test]
async fn several_rows_are_asked_for_by_their_keys() {
    let world = World::start().await;
    let (ada, bob) = (world.registered("ada").await, world.registered("bob").await);
    let list = world
        .get(&format!("/accounts?id={bob},{ada}&fields=username"))
        .header("Min-Position", 2)
        .send()
        .await;
    let mut names: Vec<Value> = column(&list.body, "username");
    names.sort_by_key(|name| name.to_string());
    assert_eq!(names, ["ada", "bob"]);
}

#[tokio::test]
async fn an_answer_says_which_position_it_reflects() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let read = world.get(&format!("/accounts/{ada}")).header("Min-Position", 1).send().await;
    assert_eq!(read.header("log-position"), "1");
    // Every view moves on with the log, also when an event does not touch it.
    let sales = world.get("/daily_sales").header("Min-Position", 1).send().await;
    assert_eq!((sales.header("log-position"), &sales.body["items"]), ("1", &json!([])));
}

#[tokio::test]
async fn a_read_that_asks_for_a_position_waits_for_it() {
    let world = World::start().await;
    // While somebody holds the checkpoint, the projector cannot commit.
    let mut database = world.place.database().await;
    let mut hold = database.begin().await.unwrap();
    sqlx::query("select from checkpoints where view = 'accounts' for update")
        .execute(&mut *hold)
        .await
        .unwrap();
    let ada = world.registered("ada").await;
    let read = || world.get(&format!("/accounts/{ada}?fields=username"));

    let waiting = tokio::spawn(read().header("Min-Position", 1).header("Prefer", "wait=20").send());
    for _ in 0..20 {
        assert_eq!(read().send().await.problem(), (404, "no-such-row"));
    }
    hold.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().text, r#"{"username":"ada"}"#);
}

#[tokio::test]
async fn queries_go_on_while_nats_is_gone() {
    let world = World::at(Place::new(Arc::new(Servers::start().await)).await).await;
    let ada = world.registered("ada").await;
    let read = || world.get(&format!("/accounts/{ada}?fields=username")).header("Min-Position", 1).send();
    assert_eq!(read().await.text, r#"{"username":"ada"}"#);
    world.place.servers.nats.kill().await;
    assert_eq!(read().await.text, r#"{"username":"ada"}"#);
    let command = world.post(&format!("/accounts/{ada}/close")).send().await;
    assert!(matches!(command.problem(), (503 | 504, _)), "{command:?}");
}

#[tokio::test]
async fn commands_go_on_while_postgres_is_gone() {
    let world = World::at(Place::new(Arc::new(Servers::start().await)).await).await;
    world.place.servers.postgres.kill().await;
    let ada = world.registered("ada").await;
    let read = world.get(&format!("/accounts/{ada}")).send().await;
    assert_eq!(read.problem(), (503, "views-unavailable"));
    assert_eq!(read.header("retry-after"), "1");
}

/// Each shape that the catalog offers is asked, over tables that are too large for a scan to be cheap; the
/// database's own statistics tell that no table was scanned, and no index from end to end.
#[tokio::test]
async fn every_query_on_offer_is_served_by_an_index() {
    let world = World::start().await;
    let mut database = world.place.database().await;
    for statement in [
        "insert into accounts select gen_random_uuid(), 'a'||n||'@example.org', 'a'||n, null, null, 'active',
            now() - n * interval '1 minute', n from generate_series(1, 20000) n",
        "insert into orders select gen_random_uuid(), gen_random_uuid(), 1, n, 'USD', 'placed', null,
            now() - n * interval '1 minute', n from generate_series(1, 20000) n",
        "insert into customers select gen_random_uuid(), 1, 0, now(), now() - n * interval '1 minute', n
            from generate_series(1, 20000) n",
        "insert into daily_sales select date '1970-01-01' + n, 1, 1, n from generate_series(1, 20000) n",
        "analyze",
        "select pg_stat_reset()",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    let catalog = world.get("/").send().await;
    let mut asked = 0;
    for (name, view) in catalog.body["views"].as_object().unwrap() {
        let rows = world.get(&format!("/{name}?limit=1")).send().await;
        let row = rows.body["items"][0].as_object().unwrap();
        for shape in view["served"].as_array().unwrap() {
            let path = filled(shape["example"].as_str().unwrap(), row);
            let answer = world.get(&path).send().await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
            assert_ne!(answer.body["items"], json!([]), "{path}");
            asked += 1;
        }
    }
    assert!(asked >= 20, "the catalog offers more than {asked} shapes: {}", catalog.text);

    let mut total = async |what: &str| -> i64 {
        let sql = format!(
            "select coalesce(sum({what}), 0)::bigint from pg_stat_user_tables tables
            join pg_stat_user_indexes indexes using (relid)
            where tables.relname in ('accounts', 'orders', 'customers', 'daily_sales')"
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut database).await.unwrap()
    };
    until("the statistics have arrived", async || total("indexes.idx_scan").await >= asked).await;
    assert_eq!(total("tables.seq_scan").await, 0);
    // An index that does not fit could be walked from end to end: 20,000 entries, where a page needs 21.
    let read = total("indexes.idx_tup_read").await;
    assert!(read <= asked * 50, "{asked} queries read {read} entries of indexes");
}

/// An example of the catalog, such as `/accounts?email={email}`, with a row's values in place of the names.
fn filled(example: &str, row: &serde_json::Map<String, Value>) -> String {
    row.iter().fold(example.to_owned(), |path, (name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        path.replace(&format!("{{{name}}}"), &value.replace('+', "%2B"))
    })
}
