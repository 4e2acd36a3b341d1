//! A log that is not the one that was folded.

use std::convert::Infallible;

use projector::{Phase, Settings, Verify};
use reqwest::StatusCode;
use serde_json::json;

use super::{ALL, NEW, builds, cut_off, execute, get, place, rebuilt, rows, written};
use crate::{
    harness::{Place, until, verify},
    written_log::{Log, registered},
};

/// A log may be replaced by one that has less than was folded, as much, or more.
#[tokio::test]
async fn a_log_that_is_replaced_while_it_is_followed_is_noticed_and_the_views_rebuilt_from_it_when_told_to() {
    let place = place().await;
    let mut log = written(&place, 80).await;
    let projector = place.projector().await;
    let queries = place.query_service().await;
    verify(&place).await;
    let health = format!("{}/health/ready", projector.url);
    for (build, before, now) in [(2, 80, 5), (3, 5, 5), (4, 5, 300)] {
        log.replace().await;
        log = written(&place, now).await;
        until("the projector says what is wrong with every view", async || {
            let answer = get(&health).await.body;
            let reasons = answer["detail"].as_str().unwrap_or_default();
            reasons.matches("replaced or lost its end").count() == ALL.len()
        })
        .await;
        let old = rows(&place, &format!("select sum(orders) from {}", table_in_use(&place).await)).await;
        assert_eq!(old, [json!({"sum": before})], "nothing is folded on");

        for view in ALL {
            let error = rebuilt(&place, view.name, NEW).await.unwrap_err().to_string();
            assert!(error.contains("--replaced-log"), "{error}");
            let settings = Settings { replaced_log: true, ..NEW };
            let rebuilt = rebuilt(&place, view.name, settings).await.unwrap();
            assert_eq!((rebuilt.to, rebuilt.position), (build, log.head.position));
        }
        verify(&place).await;
        until("the projector is ready", async || get(&health).await.status == StatusCode::OK).await;
        let list = format!("{}/customers?sort=-spent_cents&fields=orders&limit=100", queries.url);
        until("queries say what the new log says", async || {
            let list = get(&list).await;
            assert_eq!(list.status, StatusCode::OK, "{list:?}");
            let rows = list.body["items"].as_array().unwrap().iter();
            rows.map(|row| row["orders"].as_u64().unwrap()).sum::<u64>() == now
        })
        .await;
    }
}

async fn table_in_use(place: &Place) -> String {
    builds(place, "customers").await.into_iter().find(|(_, _, in_use, _)| *in_use).unwrap().1
}

/// A reader that is told of frames all the time, none of which is new to it, looks what has become of its own.
#[tokio::test]
async fn a_shorter_log_is_noticed_while_it_is_written_on() {
    const FRAMES: u64 = 400;
    let place = place().await;
    let mut log = Log::at(&place).await;
    let append = async |log: &mut Log| {
        let position = log.next();
        log.append(&[registered(position, position.into(), &format!("a{position}"))]).await;
    };
    for _ in 0..FRAMES {
        append(&mut log).await;
    }
    let projector = place.projector().await;
    verify(&place).await;
    log.replace().await;
    let is_noticed = async {
        until("it is noticed", async || {
            get(&format!("{}/health/ready", projector.url)).await.text.contains("replaced or lost its end")
        })
        .await;
    };
    let mut written_on = async || -> Infallible {
        loop {
            append(&mut log).await;
        }
    };
    tokio::select! {
        () = is_noticed => {}
        never = written_on() => match never {},
    }
    let frames = log.head.sequence;
    assert!(frames < FRAMES, "noticed only when the new log had as many frames: {frames}");
}

/// A build that was begun on the old log, and an event that was skipped there, have no meaning in the new one.
#[tokio::test]
async fn what_was_begun_on_the_old_log_is_begun_anew_on_the_new_one() {
    let place = place().await;
    let mut log = written(&place, 40).await;
    let projector = place.projector().await;
    verify(&place).await;
    cut_off(&place, "customers", NEW, Phase::Verifying, 0).await;
    execute(
        &place,
        "insert into skipped_events (view, key, position, event, error, reason)
         values ('customers', lpad('1', 32, '0')::uuid::text, 21, '{}', 'poison', 'it was poison in the old log')",
    )
    .await;
    log.replace().await;
    let log = written(&place, 60).await;
    let settings = Settings { replaced_log: true, verify: Verify::Full, ..NEW };
    let rebuilt = rebuilt(&place, "customers", settings).await.unwrap();
    assert_eq!((rebuilt.to, rebuilt.events, rebuilt.rows_verified), (2, log.head.position, 20));
    assert_eq!(rows(&place, "select sum(orders) from customers_2").await, [json!({"sum": 60})]);
    drop(projector);
}
