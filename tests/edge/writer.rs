//! Commands go to the writer while it is known, and to any instance while it is not.

use std::time::{Duration, Instant};

use super::{
    clients::Clients,
    site::{EU, Member, Site},
};
use crate::harness::until;

/// How long a command may take whose writer was killed: until the lease has run out, and another has taken it.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(6);

async fn writer(site: &Site) -> usize {
    let mut writer = None;
    until("somebody writes", async || {
        for (index, member) in site.commands.iter().enumerate() {
            if member.instance.is_writer().await {
                writer = Some(index);
            }
        }
        writer.is_some()
    })
    .await;
    let writer = writer.unwrap();
    site.until_edge_uses("commands-writer", &[&site.commands[writer]]).await;
    writer
}

#[tokio::test]
async fn commands_go_to_the_writer_and_outlive_it() {
    let mut site = Site::start(3, &[EU]).await;
    site.until_edge_uses_all().await;
    let first = writer(&site).await;
    let clients = Clients::start(&site.edge.url(), 1, 4).await;

    let before = clients.tally();
    clients.until_accepted(200).await;
    let now = clients.tally();
    let of = |member: &Member| now.served_since(&before, &member.name);
    let served: Vec<usize> = site.commands.iter().map(of).collect();
    println!("commands served by each, of whom the writer is number {}: {served:?}", first + 1);
    assert!(served.iter().enumerate().all(|(index, count)| (index == first) == (*count > 0)), "{served:?}");

    let mut last = first;
    for _ in 0..2 {
        let killed = Instant::now();
        site.commands[last].instance.kill().await;
        clients.until_accepted(20).await;
        println!("commands are accepted {} ms after the writer was killed", killed.elapsed().as_millis());
        let next = writer(&site).await;
        assert_ne!(next, last);
        clients.until_served_by(&[&site.commands[next].name], 50).await;
        site.commands[last].instance.restart().await;
        site.until_edge_uses_all().await;
        last = next;
    }
    let tally = clients.stop().await;
    println!("the writer was killed twice: {tally}");
    tally.is_flawless();
    assert!(tally.slowest_command < TAKEOVER_TIME_MAX, "{tally}");
    crate::harness::verify(&site.place).await;
}
