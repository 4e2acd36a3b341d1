//! The mail server's bad days, and an event that nobody can read.

use domain::policies;
use serde_json::{Value, json};
use stack::ports;
use uuid::Uuid;

use super::{Office, dead, get, started, tasks, until_idle};
use crate::{
    harness::{Place, Served, Servers, World, until},
    smtp::{Certificate, SmtpServer},
    written_log::{Log, event, registered},
};

/// The one dead letter, once there is one.
async fn dead_letter(worker: &impl Served) -> Value {
    until("a task is dead", async || dead(worker).await == 1).await;
    get(worker, "/dead-letters").await.body["dead_letters"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_is_not_taken_now_keeps_no_other_from_going() {
    let office = Office::open().await;
    for name in ["later-ada", "later-alan", "later-john"] {
        office.world.registered(name).await;
    }
    // All the while, nothing is in the way of the others.
    let unhindered = async || {
        let tasks = tasks(&office.worker).await;
        assert_eq!(tasks["obstacle"], "", "{}", tasks["pace"]);
        tasks
    };
    until("they were not taken", async || unhindered().await["later"] == 3).await;
    for name in ["grace", "edsger", "barbara"] {
        office.world.registered(name).await;
    }
    until("the others are welcomed", async || {
        unhindered().await;
        office.smtp.count() == 3
    })
    .await;
    assert_eq!(dead(&office.worker).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_was_not_taken_often_enough_is_dead_with_attempts_and_last_error() {
    let (world, smtp) = (World::start().await, SmtpServer::start().await);
    let worker = started(&world, &["--mail", &smtp.url(), "--attempts-max", "2"]).await;
    let ada = world.registered("later-ada").await;
    let letter = dead_letter(&worker).await;
    let id = (&letter["policy"], &letter["aggregate"], &letter["attempts"]);
    assert_eq!(id, (&json!("welcome-email"), &json!(ada), &json!(2)));
    assert!(letter["error"].as_str().unwrap().contains("greylisted"), "{letter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_whose_content_is_refused_for_good_is_dead_at_once() {
    let office = Office::open().await;
    office.world.registered("spam-ada").await;
    let letter = dead_letter(&office.worker).await;
    assert_eq!(letter["attempts"], 1);
    assert!(letter["error"].as_str().unwrap().contains("looks like spam"), "{letter}");
    office.world.registered("grace").await;
    office.until_mails(1).await;
    office.until_idle().await;
}

/// With a bad mail server everything waits and nothing is dead, and all is sent once a good one has its port. `mail` is
/// the URL without its port, and what comes after it.
async fn everything_waits_for_a_good_server(
    bad: Value,
    why: &str,
    good: Value,
    mail: [&str; 2],
    flags: &[&str],
) {
    let at = |port: u16, mut options: Value| {
        options["port"] = json!(port);
        options
    };
    let (world, port) = (World::start().await, ports::next_free(0).unwrap());
    let bad = SmtpServer::start_with(at(port, bad)).await;
    let url = format!("{}:{port}{}", mail[0], mail[1]);
    let settings = ["--mail", &*url, "--smtp-timeout-seconds", "1", "--attempts-max", "1"];
    let worker = started(&world, &[&settings, flags].concat()).await;
    for name in ["ada", "grace", "edsger"] {
        world.registered(name).await;
    }
    until("the worker says what is in the way", async || {
        let tasks = tasks(&worker).await;
        tasks["obstacle"] == "the mail server is unavailable"
            && tasks["pace"]["reason"].as_str().unwrap().contains(why)
    })
    .await;
    assert_eq!((dead(&worker).await, bad.count()), (0, 0));
    bad.stop().await;
    let good = SmtpServer::start_with(at(port, good)).await;
    until("all are welcomed", async || good.count() == 3).await;
    until_idle(&world, &worker).await;
    assert_eq!((dead(&worker).await, good.count()), (0, 3));
}

const PLAIN: [&str; 2] = ["smtp://127.0.0.1", ""];

#[tokio::test(flavor = "multi_thread")]
async fn everything_waits_for_a_server_that_never_answers() {
    let silent = json!({"silent": true});
    everything_waits_for_a_good_server(silent, "in time", json!({}), PLAIN, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_waits_for_a_server_that_hangs_in_the_middle() {
    let hanging = json!({"everyone": "hang"});
    everything_waits_for_a_good_server(hanging, "took longer", json!({}), PLAIN, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_waits_for_a_server_that_breaks_off_in_the_middle() {
    let breaking = json!({"everyone": "break"});
    everything_waits_for_a_good_server(breaking, "", json!({}), PLAIN, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_waits_for_a_server_whose_tls_is_broken() {
    let certificate = Certificate::make();
    let (bad, good) = (certificate.options("broken"), certificate.options("required"));
    let mail = ["smtp://localhost", "?tls=required"];
    let trusted = certificate.path();
    let flags = ["--smtp-ca", trusted.to_str().unwrap()];
    everything_waits_for_a_good_server(bad, "", good, mail, &flags).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_waits_for_a_server_that_refuses_the_login() {
    let knows = |password: &str| json!({"user": "me", "password": password});
    let mail = ["smtp://me:right@127.0.0.1", ""];
    everything_waits_for_a_good_server(knows("another"), "535", knows("right"), mail, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_a_dead_letter_and_others_flow() {
    const ADA: u128 = 1;
    let place = Place::new(Servers::shared().await).await;
    let (mut log, smtp) = (Log::at(&place).await, SmtpServer::start().await);
    let queries = place.query_service().await;
    let settings = ["--mail", &*smtp.url(), "--policy-start", "welcome-email=0"];
    let worker = place.task_worker_of(policies::ALL, &queries, &settings).await;
    let exploded = event(2, 1, ADA, "account.exploded", json!({}));
    log.append(&[registered(1, ADA, "ada"), exploded, registered(3, 2, "grace")]).await;
    log.append(&[registered(4, 3, "edsger")]).await;
    until("all others are welcomed", async || smtp.count() == 3).await;
    let letter = dead_letter(&worker).await;
    assert_eq!((&letter["aggregate"], &letter["position"]), (&json!(Uuid::from_u128(ADA)), &json!(2)));
    let error = letter["error"].as_str().unwrap();
    assert!(error.contains("event 2 cannot be read") && error.contains("account.exploded"), "{error}");
    let id = format!("welcome-email.{}.2", Uuid::from_u128(ADA));
    let letter = get(&worker, &format!("/dead-letters/{id}")).await.body;
    assert_eq!(letter["event"]["type"], "account.exploded");
}
