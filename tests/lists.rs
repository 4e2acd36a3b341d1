//! Lists hold the rows that they should, whichever kind of index they are read from, on whatever pages.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    harness::{Call, Place, Servers, Service, until},
    plans::make_samples,
};

/// A query-service alone, over rows that a test writes itself.
struct Queries {
    service: Service,
    database: PgConnection,
    http: reqwest::Client,
    _place: Place,
}

impl Queries {
    async fn over(place: Place) -> Self {
        let (service, database) = (place.query_service().await, place.database().await);
        let queries = Self { service, database, http: reqwest::Client::new(), _place: place };
        until("the catalog is read", async || queries.get("/").await["views"].is_object()).await;
        queries
    }

    async fn get(&self, path: &str) -> Value {
        Call::new(self.http.get(format!("{}{path}", self.service.url))).send().await.body
    }

    /// One page: the values of `column`, and the cursor of the next.
    async fn page(&self, path: &str, column: &str) -> (Vec<Value>, Option<String>) {
        let page = self.get(path).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{path}: {page}"));
        let values = items.iter().map(|item| item[column].clone()).collect();
        (values, page["next_cursor"].as_str().map(str::to_owned))
    }

    /// The keys on all pages of a list.
    async fn walk(&self, path: &str) -> Vec<i64> {
        let (mut ids, mut cursor) = (vec![], String::new());
        loop {
            let (page, next) = self.page(&format!("{path}{cursor}"), "id").await;
            ids.extend(page.iter().map(|id| id.as_i64().unwrap()));
            match next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }

    async fn execute(&mut self, statement: &str) {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut self.database).await.unwrap();
    }
}

#[tokio::test]
async fn every_kind_of_index_gives_the_rows_that_a_scan_of_the_table_gives_in_the_same_order() {
    let place = Place::new(Servers::shared().await).await;
    make_samples(&mut place.database().await, 300).await;
    let mut queries = Queries::over(place).await;
    queries.execute("set enable_indexscan = off").await;
    queries.execute("set enable_indexonlyscan = off").await;
    for (request, filter, order) in [
        // Partial, and one that holds all.
        ("kind=rare", "kind = 'rare'", "n"),
        ("kind=common&n[gte]=5&n[lt]=70", "kind = 'common' and n >= 5 and n < 70", "n"),
        ("name[gt]=a", "name > 'a'", "name"),
        ("kind=common&name[lte]=z", "kind = 'common' and name <= 'z'", "name"),
        // Descending, with nulls first and last.
        ("score[gt]=3.50", "score > 3.5", "score"),
        ("kind=common&day[lt]=2026-06-01", "kind = 'common' and day < '2026-06-01'", "day"),
        ("flag=true&kind=common", "flag and kind = 'common'", "score"),
        // Any of several values.
        ("kind[in]=common,rare&n[gte]=30", "n >= 30", "n"),
        ("kind[in]=rare,common,none", "true", "day"),
        ("n[in]=1,3,300,2", "n in (1, 2, 3, 300)", "id"),
        ("flag[in]=true,false&kind=rare&score[gte]=4", "kind = 'rare' and score >= 4", "score"),
        ("upper(email)=mail9@example.org&kind[in]=rare,common", "lower(email) = 'mail9@example.org'", "n"),
        ("id=5,7,6", "id in (5, 6, 7)", "id"),
        // Prefixes, also of what no text can be after.
        ("name[prefix]=n", "starts_with(name, 'n')", "name collate \"C\""),
        ("name[prefix]=name 1", "starts_with(name, 'name 1')", "name collate \"C\""),
        ("name[prefix]=%C3%A9", "starts_with(name, 'é')", "name collate \"C\""),
        ("name[prefix]=%F4%8F%BF%BF", "starts_with(name, chr(1114111))", "name collate \"C\""),
        ("lower(email)=MAIL77@Example.org", "lower(email) = 'mail77@example.org'", "id"),
    ] {
        for (sign, direction) in [("", ""), ("-", " desc")] {
            let sort = order.split(' ').next().unwrap();
            let path = format!("/samples?{request}&sort={sign}{sort}&limit=7&fields=id");
            let scan =
                format!("select id from samples where {filter} order by {order}{direction}, id{direction}");
            let expected: Vec<i64> =
                sqlx::query_scalar(AssertSqlSafe(scan)).fetch_all(&mut queries.database).await.unwrap();
            assert!(!expected.is_empty(), "{path}");
            assert_eq!(queries.walk(&path).await, expected, "{path}");
            let counted = queries.get(&format!("{path}&count=true")).await;
            assert_eq!(counted["count"], expected.len(), "{path}");
            assert_eq!(counted["count_is_exact"], true, "{path}");
        }
    }
}

#[tokio::test]
async fn a_cursor_keeps_its_place_while_rows_come_before_and_after_it() {
    let place = Place::new(Servers::shared().await).await;
    let mut queries = Queries::over(place).await;
    let insert = |who: &str, numbers: &str| {
        format!(
            "insert into accounts select gen_random_uuid(), null, '{who}'||n, null, null, 'active',
             timestamptz '2026-01-01Z' + n * interval '1 minute', 1 from {numbers}"
        )
    };
    queries.execute(&insert("there ", "generate_series(100, 199) n")).await;
    let (mut seen, mut cursor, mut pages) = (vec![], String::new(), 0);
    loop {
        let path = format!("/accounts?status=active&sort=-created_at&limit=10&fields=username{cursor}");
        let (page, next) = queries.page(&path, "username").await;
        seen.extend(page.iter().map(|name| name.as_str().unwrap().to_owned()));
        let Some(next) = next else { break };
        cursor = format!("&cursor={next}");
        // Newer than all that was seen, as old as the last of it, and older than all that is to come.
        pages += 1;
        queries.execute(&insert("newer ", &format!("(values ({})) as it (n)", 500 + pages))).await;
        queries.execute(&insert("older ", &format!("(values ({})) as it (n)", pages))).await;
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "none twice: {seen:?}");
    let there: Vec<&String> = seen.iter().filter(|name| name.starts_with("there")).collect();
    let expected: Vec<String> = (100..200).rev().map(|n| format!("there {n}")).collect();
    assert_eq!(there, expected.iter().collect::<Vec<_>>());
    assert!(!seen.iter().any(|name| name.starts_with("newer")), "{seen:?}");
    assert_eq!(seen.len() - there.len(), pages, "those that came after the place are seen, too: {seen:?}");
}

#[tokio::test]
async fn a_count_says_when_it_ends_before_the_rows_do() {
    let place = Place::new(Servers::shared().await).await;
    let mut queries = Queries::over(place).await;
    queries
        .execute(
            "insert into daily_sales select date '2000-01-01' + n, 1, 1, 1 from generate_series(1, 10001) n",
        )
        .await;
    let count = async |filter: &str| {
        let list = queries.get(&format!("/daily_sales?count=true&limit=1{filter}")).await;
        (list["count"].as_u64().unwrap(), list["count_is_exact"].as_bool().unwrap())
    };
    assert_eq!(count("").await, (10_000, false));
    assert_eq!(count("&day[gt]=2000-01-02").await, (10_000, true));
    assert_eq!(count("&day=2000-01-02").await, (1, true));
    let list = queries.get("/daily_sales?limit=1").await;
    assert!(list["items"].is_array() && list.get("count").is_none(), "counted unasked: {list}");
    // However far the reader is, the count is of all pages.
    let cursor = list["next_cursor"].as_str().unwrap();
    assert_eq!(count("&day[gt]=2020-01-01&sort=-day").await, count("&day[gt]=2020-01-01").await);
    assert_eq!(count(&format!("&cursor={cursor}")).await, (10_000, false));
}
