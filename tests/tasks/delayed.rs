//! Tasks that are not to be done before a time.

use std::time::{Duration, Instant};

use domain::{
    Event, Kind, Recorded,
    account::Event as Account,
    policies::WelcomeEmail,
    policy::{Definition, Owed, Policy, Task},
};
use serde_json::json;
use uuid::Uuid;

use super::{started_of, tasks, until_idle};
use crate::{
    harness::{Service, World, until},
    smtp::SmtpServer,
};

const DELAY: Duration = Duration::from_secs(3);
/// More than it takes to do a task whose time has come.
const DOING_MAX: Duration = Duration::from_secs(4);

/// A welcome that comes some seconds after the registration, unless the account is closed by then.
const LATE: &[Definition] = &[Definition {
    name: WelcomeEmail::NAME,
    priority: WelcomeEmail::PRIORITY,
    within_seconds: 60,
    aggregates: &[Kind::Account],
    owed: late,
}];

fn late(recorded: &Recorded) -> Owed {
    match (&recorded.event, WelcomeEmail::owed(recorded)) {
        (Event::Account(Account::Registered { .. }), Owed::Task(task)) => {
            let time = recorded.time.plus_seconds(DELAY.as_secs() as i64);
            Owed::Task(Task { not_before: Some(time), ..task })
        }
        (_, owed) => owed,
    }
}

async fn start() -> (World, SmtpServer, Service) {
    let (world, smtp) = (World::start().await, SmtpServer::start().await);
    let worker = started_of(LATE, &world, &["--mail", &smtp.url()]).await;
    // So that the worker is at its full pace when the time has come.
    until("tasks are not held back", async || tasks(&worker).await["pace"]["state"] == "full").await;
    (world, smtp, worker)
}

async fn until_later(worker: &Service, count: usize) {
    until("it waits for its time", async || tasks(worker).await["later"] == count).await;
}

async fn closed(world: &World, account: Uuid) {
    let answer = world.post(&format!("/accounts/{account}/close")).json(&json!({})).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_not_done_before_its_time_and_is_done_then() {
    let (world, smtp, worker) = start().await;
    let began = Instant::now();
    world.registered("ada").await;
    until_later(&worker, 1).await;
    until("it is done", async || smtp.count() == 1).await;
    let took = began.elapsed();
    assert!(took >= DELAY && took < DELAY + DOING_MAX, "done after {took:?}");
    until_idle(&world, &worker).await;
    assert_eq!(smtp.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_survives_the_worker() {
    let (world, smtp, mut worker) = start().await;
    let began = Instant::now();
    world.registered("ada").await;
    until_later(&worker, 1).await;
    worker.crash().await;
    let worker = started_of(LATE, &world, &["--mail", &smtp.url()]).await;
    assert_eq!(smtp.count(), 0);
    until("it is done", async || smtp.count() == 1).await;
    assert!(began.elapsed() >= DELAY, "done after {:?}", began.elapsed());
    until_idle(&world, &worker).await;
    assert_eq!(smtp.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_owed_no_more_before_its_time_is_never_done() {
    let (world, smtp, worker) = start().await;
    let ada = world.registered("ada").await;
    until_later(&worker, 1).await;
    closed(&world, ada).await;
    until_later(&worker, 0).await;
    // Whose time comes after hers.
    world.registered("grace").await;
    until("the next is done", async || smtp.count() > 0).await;
    until_idle(&world, &worker).await;
    assert_eq!(smtp.mail().to, ["grace@example.org"]);
}
