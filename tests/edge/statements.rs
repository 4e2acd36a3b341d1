//! What the database has to do does not grow with the replicas, as long as they answer from memory.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::site::{EU, Site};

const ACCOUNTS: usize = 20;
const CLIENTS: usize = 4;
/// Of each client, between two reads.
const PAUSE: Duration = Duration::from_millis(4);
const WARM_UP: Duration = Duration::from_secs(1);
const LOAD: Duration = Duration::from_secs(2);
/// Longer than a backend of Postgres keeps to itself what it has counted.
const COUNTED_WITHIN: Duration = Duration::from_millis(1_500);

/// Statements of the place's database, each of which is a transaction.
async fn statements(site: &Site) -> u64 {
    sleep(COUNTED_WITHIN).await;
    let sql = "select xact_commit from pg_stat_database where datname = current_database()";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut site.place.database().await).await.unwrap();
    count.unsigned_abs()
}

async fn accounts(site: &Site) -> Vec<Uuid> {
    let http = reqwest::Client::new();
    let register = (0..ACCOUNTS).map(async |number| {
        let id = Uuid::now_v7();
        let url = format!("{}/commands/accounts/{id}/register", site.edge.url());
        let body = json!({"email": format!("{number}@example.org"), "username": format!("user-{number}")});
        http.post(url).json(&body).send().await.unwrap().error_for_status().unwrap();
        id
    });
    join_all(register).await
}

/// How many statements the database was sent meanwhile.
async fn statements_during<T>(site: &Site, what: impl Future<Output = T>) -> (T, u64) {
    let before = statements(site).await;
    let outcome = what.await;
    (outcome, statements(site).await - before)
}

/// What came of reads.
#[derive(Debug, Default)]
struct Reads {
    count: u64,
    /// Those that were not answered from memory.
    missed: u64,
}

/// Reads by all clients together.
async fn read_for(duration: Duration, site: &Site, accounts: &[Uuid]) -> Reads {
    let reading = (0..CLIENTS).map(async |client| {
        let http = reqwest::Client::new();
        let (started, mut reads) = (Instant::now(), Reads::default());
        while started.elapsed() < duration {
            let account = accounts[(client + reads.count as usize) % accounts.len()];
            let url = format!("{}/queries/accounts/{account}?fields=email", site.edge.url());
            let answer = http.get(url).send().await.unwrap().error_for_status().unwrap();
            let status = answer.headers()["cache-status"].to_str().unwrap().to_owned();
            reads.count += 1;
            reads.missed += u64::from(!status.contains("; hit"));
            sleep(PAUSE).await;
        }
        reads
    });
    let all = join_all(reading).await.into_iter();
    all.fold(Reads::default(), |all, one| Reads {
        count: all.count + one.count,
        missed: all.missed + one.missed,
    })
}

#[tokio::test]
async fn hot_reads_cost_the_database_the_same_whatever_the_number_of_replicas() {
    let mut site = Site::start(1, &[EU]).await;
    let accounts = accounts(&site).await;
    for replicas in [1, 2, 4] {
        site.add_replicas(EU, replicas - site.queries.len()).await;
        site.until_edge_uses_all().await;
        // What each reads once.
        read_for(WARM_UP, &site, &accounts).await;
        // Each replica looks after its connections and the positions, whatever it serves.
        let (_, idle) = statements_during(&site, sleep(LOAD)).await;
        let (reads, statements) = statements_during(&site, read_for(LOAD, &site, &accounts)).await;
        let per_second = statements as f64 / (LOAD + COUNTED_WITHIN).as_secs_f64();
        println!("{replicas} replicas: {reads:?}, {statements} statements ({per_second:.1}/s; idle {idle})");
        // Where a machine stands still for a second, what was read before is rightly read again.
        assert!(reads.missed < reads.count / 2, "{reads:?}");
        assert!(
            statements < 3 * idle + 2 * reads.missed + reads.count / 10,
            "{statements} statements; {reads:?}; idle {idle}"
        );
    }
}
