//! The NATS server dies while tasks are under way.

use std::sync::Arc;

use serde_json::json;

use super::{dead, registered, repeats, started, tasks, until_idle};
use crate::{
    harness::{Place, Servers, World, until},
    smtp::SmtpServer,
};

const CONCURRENCY: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_loses_no_task_and_repeats_only_what_was_under_way() {
    const DEATHS: usize = 3;
    let mut world = World::at(Place::new(Arc::new(Servers::start().await)).await).await;
    let smtp = SmtpServer::start_with(json!({"answers_after": 0.3})).await;
    let concurrency = CONCURRENCY.to_string();
    let settings =
        ["--mail", &*smtp.url(), "--concurrency", &concurrency, "--smtp-connections", &concurrency];
    let blind = ["--regions", "nowhere", "--trickle-per-second", "1000"];
    let worker = started(&world, &[&settings[..], &blind].concat()).await;
    let accounts = registered(&world, 500).await;
    for _ in 0..DEATHS {
        until("many tasks are under way", async || {
            tasks(&worker).await["under_way_here"].as_u64().unwrap() >= CONCURRENCY as u64 / 2
        })
        .await;
        world.place.servers.nats.kill().await;
        // Nobody else holds the servers.
        Arc::get_mut(&mut world.place.servers).unwrap().nats.restart().await.unwrap();
    }
    until_idle(&world, &worker).await;
    assert_eq!(dead(&worker).await, 0);
    let repeats = repeats(&smtp, &accounts);
    println!("{repeats} repeats after {DEATHS} deaths of the server with at most {CONCURRENCY} under way");
    assert!(repeats <= DEATHS * CONCURRENCY, "{repeats} repeats");
}
