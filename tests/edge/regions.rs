//! Clients are served in their region, and by the next one while there is nobody in theirs.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{
    clients::{Clients, Tally, UPSTREAM},
    site::{EU, Site, US},
};

/// The other region serves within this time.
const SPILL_TIME_MAX: Duration = Duration::from_secs(2);
/// How long it is watched that a region serves alone.
const CALM: Duration = Duration::from_secs(2);

const NAMES_EU: [&str; 2] = ["eu/query-1", "eu/query-2"];
const NAME_US: &str = "us/query-3";

fn served_in_eu(now: &Tally, before: &Tally) -> usize {
    NAMES_EU.iter().map(|name| now.served_since(before, name)).sum()
}

/// Watches the clients for a while, once these serve them, and says how many requests each region has served.
async fn served(clients: &Clients, names: &[&str]) -> (usize, usize) {
    // What was under way elsewhere is answered by then.
    clients.until_served_by(names, 20).await;
    let before = clients.tally();
    clients.go_on(CALM).await;
    let now = clients.tally();
    (served_in_eu(&now, &before), now.served_since(&before, NAME_US))
}

async fn both_restart(site: &mut Site) {
    let eu = site.queries.iter_mut().filter(|member| member.name.starts_with(EU));
    join_all(eu.map(|member| member.instance.restart())).await;
    site.until_edge_uses_all().await;
}

#[tokio::test]
async fn the_next_region_serves_while_there_is_nobody_in_the_clients_own() {
    let mut site = Site::start(1, &[EU, EU, US]).await;
    site.until_edge_uses_all().await;
    let clients = Clients::start(&site.edge.url(), 8, 1).await;
    let (eu, us) = served(&clients, &NAMES_EU).await;
    println!("all there: {eu} served in eu, {us} in us");
    assert!(eu > 100 && us == 0, "{eu} and {us}");

    // They leave in good order.
    let before = Instant::now();
    let leaving = join_all(site.queries[..2].iter().map(|member| member.instance.stop()));
    let (_, took) = tokio::join!(leaving, async {
        clients.until_served_by(&[NAME_US], 1).await;
        before.elapsed()
    });
    let (eu, us) = served(&clients, &[NAME_US]).await;
    println!("eu has left: us serves after {} ms; then {eu} served in eu, {us} in us", took.as_millis());
    assert!(took < SPILL_TIME_MAX, "{took:?}");
    assert!(eu == 0 && us > 100, "{eu} and {us}");

    both_restart(&mut site).await;
    let (eu, us) = served(&clients, &NAMES_EU).await;
    println!("eu is back: {eu} served in eu, {us} in us");
    assert!(eu > 100 && us == 0, "{eu} and {us}");

    // They die.
    let before = Instant::now();
    join_all(site.queries[..2].iter().map(|member| member.instance.kill())).await;
    clients.until_served_by(&[NAME_US], 1).await;
    let took = before.elapsed();
    let (_, us) = served(&clients, &[NAME_US]).await;
    println!("eu was killed: us serves after {} ms; then {us} in us", took.as_millis());
    assert!(took < SPILL_TIME_MAX && us > 100, "{took:?}, {us}");

    both_restart(&mut site).await;
    clients.until_served_by(&NAMES_EU, 50).await;
    let tally = clients.stop().await;
    println!("two regions: {tally}");
    tally.is_flawless();
}

/// Who serves a client that says where it is.
async fn upstream_of(url: &str, region: &str) -> String {
    let request = reqwest::Client::new().get(format!("{url}/queries/")).header("x-region", region);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.headers()[UPSTREAM].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_header_of_a_region_counts_where_a_cdn_sets_it_and_nowhere_else() {
    let site = Site::start(1, &[EU, US]).await;
    let trusting = site.another_edge(|config| config.trusts_region_header = true).await;
    for (region, trusted) in [("us", "us/query-2"), ("eu", "eu/query-1"), ("mars", "eu/query-1")] {
        assert_eq!(upstream_of(&trusting.url(), region).await, trusted, "{region}");
        assert_eq!(upstream_of(&site.edge.url(), region).await, "eu/query-1", "{region}");
    }
}
