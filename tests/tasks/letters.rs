//! Dead letters: seen, sent again, discarded.

use serde_json::{Value, json};

use super::{Office, get, post};
use crate::harness::{Answer, until};

/// An office with one dead letter, and its id.
async fn with_a_dead_letter() -> (Office, String) {
    let office = Office::open().await;
    // The mail server refuses such addresses for good.
    let never = office.world.registered("never-ada").await;
    until("the letter is dead", async || get(&office.worker, "/dead-letters").await.body["total"] == 1).await;
    (office, format!("welcome-email.{never}.1"))
}

async fn letters(office: &Office) -> Vec<Value> {
    let list = get(&office.worker, "/dead-letters").await.body;
    list["dead_letters"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_mail_server_refuses_for_good_can_be_read_with_error_attempts_and_event() {
    let (office, id) = with_a_dead_letter().await;
    let letter = get(&office.worker, &format!("/dead-letters/{id}")).await.body;
    assert!(letter["error"].as_str().unwrap().contains("550"), "{letter}");
    assert_eq!((&letter["attempts"], &letter["position"]), (&json!(1), &json!(1)));
    assert_eq!(letter["event"]["type"], "account.registered");
    let metrics = get(&office.worker, "/metrics").await.text;
    // All tests of this process share these metrics, so only that they are there can be said.
    assert!(metrics.contains("\nheadwater_dead_letters "), "{metrics}");
    let counted =
        |line: &str| line.starts_with("headwater_task_attempts_total{") && line.contains(r#"outcome="dead""#);
    assert!(metrics.lines().any(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_sent_again_is_tried_again() {
    let (office, id) = with_a_dead_letter().await;
    let died_at = letters(&office).await[0]["died_at"].clone();
    let answer = post(&office.worker, &format!("/dead-letters/{id}/retry"), &json!({})).await;
    assert_eq!(answer.status, 202);
    until("it was tried and died again", async || {
        letters(&office).await.first().is_some_and(|letter| letter["died_at"] != died_at)
    })
    .await;
    assert_eq!(letters(&office).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_discarded_with_a_reason() {
    let (office, id) = with_a_dead_letter().await;
    let discard = async |body: &Value| -> Answer {
        post(&office.worker, &format!("/dead-letters/{id}/discard"), body).await
    };
    assert_eq!(discard(&json!({})).await.problem(), (400, "reason-required"));
    assert_eq!(discard(&json!({"reason": " "})).await.problem(), (400, "reason-required"));
    assert_eq!(discard(&json!({"reason": "no such mailbox"})).await.status, 204);
    assert_eq!(letters(&office).await, Vec::<Value>::new());
    assert_eq!(discard(&json!({"reason": "again"})).await.problem(), (404, "no-dead-letter"));
    let retry = post(&office.worker, &format!("/dead-letters/{id}/retry"), &json!({})).await;
    assert_eq!(retry.problem(), (404, "no-dead-letter"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_id_is_no_dead_letter() {
    let office = Office::open().await;
    for id in ["x", "*", "welcome-email.%3E.1"] {
        let answer = get(&office.worker, &format!("/dead-letters/{id}")).await;
        assert_eq!(answer.problem(), (404, "no-dead-letter"), "{id}");
    }
}
