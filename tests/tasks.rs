//! Tasks, from the event to the email.

mod by_hand;
mod cancelling;
mod delayed;
mod encrypted;
mod letters;
mod outage;
mod policies;
mod pressure;
mod priority;
mod storm;
mod trouble;

use std::{collections::BTreeSet, time::Duration};

use domain::policy::Definition;
use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Served, Service, World, until},
    smtp::SmtpServer,
};

/// A system with a task-worker and a mail server.
pub struct Office {
    pub world: World,
    pub smtp: SmtpServer,
    pub worker: Service,
}

impl Office {
    pub async fn open() -> Self {
        Self::with(World::start().await, SmtpServer::start().await).await
    }

    pub async fn with(world: World, smtp: SmtpServer) -> Self {
        let worker = started(&world, &["--mail", &smtp.url()]).await;
        Self { world, smtp, worker }
    }

    /// Waits until the mail server has accepted so many.
    pub async fn until_mails(&self, count: usize) {
        until("the emails are there", async || self.smtp.mails().len() >= count).await;
    }

    /// Waits until nothing is owed any more.
    pub async fn until_idle(&self) {
        until_idle(&self.world, &self.worker).await;
    }
}

/// Waits until nothing is owed any more.
pub async fn until_idle(world: &World, worker: &impl Served) {
    until_planned(world, worker).await;
    until("nothing is owed any more", async || is_idle(&tasks(worker).await)).await;
}

/// Whether no task is in the queue.
pub fn is_idle(tasks: &Value) -> bool {
    let is_idle = |policy: &Value| policy["ready"] == 0 && policy["under_way"] == 0;
    tasks["policies"].as_array().unwrap().iter().all(is_idle) && tasks["later"] == 0
}

/// Waits until everything in the log was planned by this worker.
pub async fn until_planned(world: &World, worker: &impl Served) {
    let head = world.place.log().await.head().await.unwrap().position;
    until("everything was planned", async || {
        tasks(worker).await["planner"]["position"].as_u64() >= Some(head)
    })
    .await;
}

/// A task-worker whose policies have started.
pub async fn started(world: &World, settings: &[&str]) -> Service {
    started_of(domain::policies::ALL, world, settings).await
}

/// The same, of other policies than the application's.
pub async fn started_of(policies: &'static [Definition], world: &World, settings: &[&str]) -> Service {
    let worker = world.place.task_worker_of(policies, &world.queries, settings).await;
    world.until_ready(&worker).await;
    worker
}

pub async fn tasks(worker: &impl Served) -> Value {
    get(worker, "/tasks").await.body
}

/// How many tasks are dead.
pub async fn dead(worker: &impl Served) -> u64 {
    get(worker, "/dead-letters").await.body["total"].as_u64().unwrap()
}

pub async fn get(worker: &impl Served, path: &str) -> Answer {
    Call::new(reqwest::Client::new().get(format!("{}{path}", worker.url()))).send().await
}

pub async fn post(worker: &impl Served, path: &str, body: &Value) -> Answer {
    Call::new(reqwest::Client::new().post(format!("{}{path}", worker.url()))).json(body).send().await
}

/// Registers so many accounts, several at once, and gives their ids.
pub async fn registered(world: &World, count: usize) -> BTreeSet<Uuid> {
    let names = (0..count).map(|number| format!("user{number}"));
    let registering = stream::iter(names).map(|name| async move { world.registered(&name).await });
    registering.buffer_unordered(16).collect().await
}

/// Every account has its welcome, under one Message-ID. How many got it once more than that.
pub fn repeats(smtp: &SmtpServer, accounts: &BTreeSet<Uuid>) -> usize {
    let ids: Vec<String> = smtp.mails().iter().map(|mail| mail.header("Message-ID").to_owned()).collect();
    let account = |id: &String| -> Uuid { id.split('.').nth(1).unwrap().parse().unwrap() };
    let distinct: BTreeSet<&String> = ids.iter().collect();
    let welcomed: BTreeSet<Uuid> = ids.iter().map(account).collect();
    assert_eq!(&welcomed, accounts, "somebody was not welcomed");
    assert_eq!(distinct.len(), accounts.len(), "a repeat has another Message-ID");
    ids.len() - accounts.len()
}

/// Places an order now.
pub async fn ordered(world: &World, account: Uuid) -> Uuid {
    let order = json!({"account_id": account, "quantity": 2, "amount_cents": 2905, "currency": "USD"});
    let answer = world.post("/orders/place").json(&order).send().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.body["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_leads_to_one_email_with_what_was_registered() {
    let office = Office::open().await;
    let ada = office.world.registered("ada").await;
    office.until_mails(1).await;
    office.until_idle().await;
    let mail = office.smtp.mail();
    assert_eq!(
        (mail.to.as_slice(), mail.kind.as_str()),
        (["ada@example.org".to_owned()].as_slice(), "multipart/alternative")
    );
    assert!(mail.parts.iter().all(|part| part.2.contains("ada")), "{:?}", mail.parts);
    assert_eq!(mail.header("Message-ID"), format!("<welcome-email.{ada}.1@localhost.localdomain>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_confirmed_to_the_address_that_the_account_has_by_then() {
    let office = Office::open().await;
    let ada = office.world.registered("ada").await;
    office.until_mails(1).await;
    let changed = json!({"email": "ada@example.net"});
    let answer = office.world.post(&format!("/accounts/{ada}/change-email")).json(&changed).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let order = ordered(&office.world, ada).await;
    office.until_mails(2).await;
    let mail = &office.smtp.mails()[1];
    assert_eq!(mail.to, ["ada@example.net"]);
    assert!(
        mail.parts.iter().all(|part| part.2.contains("29.05 USD") && part.2.contains(&order.to_string()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_mail_server_does_not_take_now_is_sent_later() {
    let office = Office::open().await;
    // The mail server takes such an address the third time.
    office.world.registered("twice-ada").await;
    office.until_mails(1).await;
    office.until_idle().await;
    assert_eq!(office.smtp.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_is_no_mail_server_tasks_wait_and_none_is_dead() {
    let world = World::start().await;
    let port = stack::ports::next_free(0).unwrap();
    let worker = started(&world, &["--mail", &format!("smtp://127.0.0.1:{port}")]).await;
    for name in ["ada", "grace", "edsger"] {
        world.registered(name).await;
    }
    until("the worker says what is in the way", async || {
        tasks(&worker).await["obstacle"].as_str().unwrap().contains("unavailable")
    })
    .await;
    let smtp = SmtpServer::start_with(json!({"port": port})).await;
    until("the emails are there", async || smtp.mails().len() == 3).await;
    assert_eq!(get(&worker, "/dead-letters").await.body["total"], 0);
    tokio::time::timeout(Duration::from_secs(5), async {
        let mut worker = worker;
        worker.stop().await
    })
    .await
    .unwrap();
}
