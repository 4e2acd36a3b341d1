//! What is owed no more.

use serde_json::json;
use uuid::Uuid;

use super::{Office, ordered, started, tasks, until_planned};
use crate::{
    harness::{World, until},
    smtp::SmtpServer,
};

async fn closed(world: &World, account: Uuid) {
    let answer = world.post(&format!("/accounts/{account}/close")).json(&json!({})).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_closed_before_its_welcome_was_sent_gets_none() {
    let world = World::start().await;
    // Nothing listens there, so nothing is sent yet.
    let mut worker = started(&world, &["--mail", "smtp://127.0.0.1:1"]).await;
    let ada = world.registered("ada").await;
    world.registered("grace").await;
    until("both are owed", async || {
        let tasks = tasks(&worker).await;
        tasks["later"].as_u64().unwrap() + tasks["policies"][0]["ready"].as_u64().unwrap() == 2
    })
    .await;
    closed(&world, ada).await;
    until_planned(&world, &worker).await;
    worker.stop().await;
    let office = Office::with(world, SmtpServer::start().await).await;
    office.until_mails(1).await;
    office.until_idle().await;
    assert_eq!(office.smtp.mail().to, ["grace@example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_gets_no_confirmation_of_its_order() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    // The policies start now: the registration owes nothing.
    let mut worker = started(&world, &["--mail", "smtp://127.0.0.1:1"]).await;
    ordered(&world, ada).await;
    closed(&world, ada).await;
    until_planned(&world, &worker).await;
    worker.stop().await;
    let office = Office::with(world, SmtpServer::start().await).await;
    office.world.registered("grace").await;
    office.until_mails(1).await;
    office.until_idle().await;
    assert_eq!(office.smtp.mail().to, ["grace@example.org"]);
}
