//! One service after the other is restarted, as for a new version.

use std::collections::BTreeSet;

use super::{
    clients::Clients,
    site::{EU, Site},
};
use crate::{harness, harness::until, instance::Instance, smtp::SmtpServer};

#[tokio::test]
async fn every_service_is_restarted_in_turn_and_no_client_notices() {
    let mut site = Site::start(2, &[EU, EU, EU]).await;
    site.add_projector().await;
    let smtp = SmtpServer::start().await;
    let mut workers = [task_worker(&site, &smtp, 1).await, task_worker(&site, &smtp, 2).await];
    site.until_edge_uses_all().await;
    let clients = Clients::start_with(&site.edge.url(), 6, 1, 1).await;
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
    for projector in &mut site.projectors {
        projector.restart().await;
        clients.until_accepted(50).await;
    }
    for worker in &mut workers {
        worker.restart().await;
        clients.until_accepted(50).await;
    }

    let tally = clients.stop().await;
    println!("three query-services, two of each other service restarted: {tally}");
    tally.is_flawless();
    harness::verify(&site.place).await;
    // How long that takes altogether is the machine's affair; it goes on.
    while smtp.count() < tally.commands {
        let before = smtp.count();
        until("somebody more is welcomed", async || smtp.count() > before).await;
    }
    let mails: Vec<String> = smtp.mails().iter().map(|mail| mail.header("Message-ID").to_owned()).collect();
    let distinct: BTreeSet<&String> = mails.iter().collect();
    assert_eq!((mails.len(), distinct.len()), (tally.commands, tally.commands), "one email an account");
}

async fn task_worker(site: &Site, smtp: &SmtpServer, number: usize) -> Instance {
    let log = site.folder.path().join(format!("task-worker-{number}.log"));
    Instance::task_worker(&site.place, log, &[("HEADWATER_MAIL", &smtp.url())]).await
}
