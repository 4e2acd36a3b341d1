//! Replicas come and go while clients read, and one of them is slow for a while, or freezes.

use std::time::{Duration, Instant};

use tokio::{task::JoinHandle, time::sleep};

use super::{
    clients::{Clients, Tally},
    site::{EU, Site, duration},
};
use crate::{
    harness::until,
    instance::{pause, resume},
};

/// The rhythm in which a slow replica stands still and goes on.
const STANDS_STILL: Duration = Duration::from_millis(60);
const GOES_ON: Duration = Duration::from_millis(20);

/// A process that stands still three quarters of the time, until this is dropped.
struct Slowed {
    pid: u32,
    pulses: JoinHandle<()>,
}

impl Slowed {
    fn process(pid: u32) -> Self {
        let pulses = async move {
            loop {
                pause(pid);
                sleep(STANDS_STILL).await;
                resume(pid);
                sleep(GOES_ON).await;
            }
        };
        Self { pid, pulses: tokio::spawn(pulses) }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        self.pulses.abort();
        resume(self.pid);
    }
}

/// How many requests the first of these served since `before`, and the others on average.
fn shares(now: &Tally, before: &Tally, names: &[&str]) -> (usize, usize) {
    let served: Vec<usize> = names.iter().map(|name| now.served_since(before, name)).collect();
    (served[0], served[1..].iter().sum::<usize>() / (served.len() - 1))
}

#[tokio::test]
async fn one_replica_becomes_four_and_then_two_and_no_client_notices() {
    let part = duration() / 4;
    let mut site = Site::start(1, &[EU]).await;
    let clients = Clients::start(&site.edge.url(), 8, 1).await;
    clients.go_on(part).await;

    site.add_replicas(EU, 3).await;
    let names: Vec<String> = site.queries.iter().map(|member| member.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    clients.until_served_by(&names, 50).await;
    let before = clients.tally();
    clients.go_on(part).await;
    let even = shares(&clients.tally(), &before, &names);

    let slowed = Slowed::process(site.queries[0].instance.pid());
    let before = clients.tally();
    clients.go_on(part).await;
    let slow = shares(&clients.tally(), &before, &names);
    drop(slowed);

    // One is taken off the list before it is asked to leave, the other is asked to leave while it is on it.
    let listed = site.queries.pop().unwrap();
    site.tell_edge();
    listed.instance.stop().await;
    let unlisted = site.queries.pop().unwrap();
    unlisted.instance.stop().await;
    site.tell_edge();
    site.until_edge_uses_all().await;
    let before = clients.tally();
    clients.go_on(part).await;
    let left = clients.tally();
    let tally = clients.stop().await;

    println!("1, 4, 2 replicas: {tally}");
    println!("requests to one replica and to each other: {even:?}, and {slow:?} while the one is slow");
    tally.is_flawless();
    assert!(even.0 * 2 > even.1 && even.0 < even.1 * 2, "{even:?}");
    assert!(slow.0 * 10 < slow.1 * 8, "a slow replica gets less: {slow:?}");
    for gone in [listed, unlisted] {
        assert_eq!(left.served_since(&before, &gone.name), 0, "{} serves no more", gone.name);
    }
    for member in &site.queries {
        assert!(left.served_since(&before, &member.name) > 50, "{} serves", member.name);
    }
}

/// Longer than a replica may be silent before its query is sent to another.
const FROZEN_TIME_MAX: Duration = Duration::from_secs(10);
const FROZEN_TIME_MIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_replica_that_freezes_costs_its_clients_seconds_and_no_answer() {
    let site = Site::start(1, &[EU, EU]).await;
    let clients = Clients::start(&site.edge.url(), 6, 1).await;
    let names = [site.queries[0].name.as_str(), site.queries[1].name.as_str()];
    clients.until_served_by(&names, 50).await;

    let frozen = Instant::now();
    pause(site.queries[0].instance.pid());
    site.until_edge_uses("queries-eu", &[&site.queries[1]]).await;
    let noticed = frozen.elapsed();
    until("the queries that it had are answered by the other", async || {
        clients.tally().slowest_query > FROZEN_TIME_MIN
    })
    .await;
    resume(site.queries[0].instance.pid());
    clients.until_served_by(&names, 50).await;
    let tally = clients.stop().await;
    println!("a frozen replica is left out after {} ms: {tally}", noticed.as_millis());
    tally.is_flawless();
    assert!(tally.slowest_query < FROZEN_TIME_MAX, "{tally}");
}
