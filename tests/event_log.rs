//! The log itself: the fence, what a reader notices, and what anybody can read with any NATS client.

use async_nats::jetstream;
use event_log::{AppendError, Checkpoint, Encoded, EventLog, FollowError, Head, NewFrame};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Place, Servers, World};

async fn empty_log() -> (Place, EventLog) {
    let place = Place::new(Servers::shared().await).await;
    let log = place.log().await;
    log.ensure().await.unwrap();
    (place, log)
}

/// A frame without events, which any head may be followed by.
fn frame(head: Head) -> NewFrame {
    NewFrame::new(head, head.term + 1, Encoded::default())
}

#[tokio::test]
async fn of_two_writers_at_one_head_one_appends() {
    let (_place, log) = empty_log().await;
    let head = log.head().await.unwrap();
    assert_eq!(head, Head::default());
    let (one, other) = (frame(head), frame(head));
    let (a, b) = tokio::join!(log.append(&one, head), log.append(&other, head));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert!(matches!(a.err().or(b.err()), Some(AppendError::Conflict)));
    assert_eq!(log.head().await.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_frame_that_is_sent_again_is_found_not_stored_twice() {
    let (_place, log) = empty_log().await;
    let frame = frame(Head::default());
    let first = log.append(&frame, Head::default()).await.unwrap();
    let again = log.append(&frame, Head::default()).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(log.head().await.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_writer_that_was_overtaken_cannot_append() {
    let (_place, log) = empty_log().await;
    let old = log.append(&frame(Head::default()), Head::default()).await.unwrap();
    let new = log.append(&frame(old), old).await.unwrap();
    assert_eq!(new.term, 2);
    let late = log.append(&frame(old), old).await;
    assert!(matches!(late, Err(AppendError::Conflict)), "{late:?}");
}

#[tokio::test]
async fn a_reader_notices_that_the_log_was_replaced() {
    let (place, log) = empty_log().await;
    let mut head = Head::default();
    for _ in 0..3 {
        head = log.append(&frame(head), head).await.unwrap();
    }
    let mut follower = log.follow(Checkpoint::default());
    while follower.checkpoint().frame_sequence < head.sequence {
        follower.available().await.unwrap();
    }
    let checkpoint = follower.checkpoint();

    let jetstream = jetstream::new(place.nats().await);
    jetstream.delete_stream(format!("{}_LOG", place.namespace)).await.unwrap();
    log.ensure().await.unwrap();
    // Shorter than before, and then longer, with other frames: neither is read on from.
    for frames in [2, 5] {
        let mut head = log.head().await.unwrap();
        while head.sequence < frames {
            head = log.append(&frame(head), head).await.unwrap();
        }
        let error = log.follow(checkpoint).available().await.unwrap_err();
        assert!(matches!(error, FollowError::Replaced { sequence: 3, .. }), "{error:?}");
    }
    // One that was reading all the while notices, too.
    let error = follower.next().await.unwrap_err();
    assert!(matches!(error, FollowError::Replaced { .. } | FollowError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_reader_stops_at_a_gap() {
    let (_place, log) = empty_log().await;
    let head = log.append(&frame(Head::default()), Head::default()).await.unwrap();
    let skipping = frame(Head { position: head.position + 5, ..head });
    log.append(&skipping, head).await.unwrap();
    let mut follower = log.follow(Checkpoint::default());
    assert_eq!(follower.next().await.unwrap().len(), 1);
    let error = follower.next().await.unwrap_err();
    assert!(matches!(error, FollowError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn anybody_can_read_the_log_with_a_nats_client_and_a_json_parser() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let order = world.placed(ada, 2933, "1997-01-01").await;

    let jetstream = jetstream::new(world.place.nats().await);
    let stream = jetstream.get_stream(format!("{}_LOG", world.place.namespace)).await.unwrap();
    let consumer = stream.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await.unwrap();
    let mut messages = consumer.messages().await.unwrap().take(3);
    let mut events = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        let headers = message.headers.as_ref().unwrap();
        assert_eq!(headers.get("Content-Type").unwrap().as_str(), "application/cloudevents-batch+json");
        let batch: Vec<Value> = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(headers.get("Headwater-Count").unwrap().as_str(), batch.len().to_string());
        events.extend(batch);
    }
    let placed = &events[1];
    assert_eq!(placed["specversion"], "1.0");
    assert_eq!(
        (&placed["id"], &placed["position"], &placed["previous"]),
        (&json!("2"), &json!("2"), &json!("0"))
    );
    assert_eq!(
        (&placed["type"], &placed["dataschema"]),
        (&json!("order.placed"), &json!("urn:headwater:order.placed:1"))
    );
    assert_eq!((&placed["subject"], &placed["data"]["amount_cents"]), (&order.body["id"], &json!(2933)));
}
