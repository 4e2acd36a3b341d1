//! One service after the other is restarted, as for a new version.

use super::{
    clients::Clients,
    site::{EU, Site},
};

#[tokio::test]
async fn every_service_is_restarted_in_turn_and_no_client_notices() {
    let mut site = Site::start(2, &[EU, EU, EU]).await;
    site.until_edge_uses_all().await;
    let clients = Clients::start_with(&site.edge.url(), 6, 2, 2).await;
    clients.until_accepted(50).await;
    for index in 0..site.queries.len() {
        site.queries[index].instance.restart().await;
        // Whoever restarts the next one waits for this one.
        site.until_edge_uses_all().await;
        clients.until_served_by(&[&site.queries[index].name], 20).await;
    }
    for index in 0..site.commands.len() {
        site.commands[index].instance.restart().await;
        site.until_edge_uses_all().await;
        clients.until_accepted(50).await;
    }
    let tally = clients.stop().await;
    println!("three query-services and two command-services restarted: {tally}");
    tally.is_flawless();
}
