use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::storm::random::Random;

const KILLS: usize = 30;

/// Whatever is in place at any moment is whole, and there once; in the end it is the log.
#[tokio::test]
async fn an_export_that_is_killed_thirty_times_while_events_arrive_is_exactly_the_log() {
    let desk = Desk::with_events(20).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut log, stopped) =
        (Log { log: desk.log.log.clone(), client: desk.client.clone(), head: desk.head }, stop.clone());
    let writing = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let events: Vec<Value> = (log.next()..log.next() + 9).map(story).collect();
            log.append(&events).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        log
    });
    let mut random = Random::new(42, 0);
    let export = ["export", "--out", "all", "--format", "jsonl", "--partition", "50"];
    let mut known = BTreeSet::new();
    for _ in 0..KILLS {
        let mut run = desk.command(&[&export[..], &["--follow", "--every", "0.02"]].concat()).await;
        let mut run = run.stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(40 + random.within(0..120))).await;
        run.kill().await.unwrap();
        let now = files(&desk.path("all"), "jsonl");
        assert!(now.is_superset(&known), "a file is gone");
        known = now;
        exported(&desk.path("all"));
    }
    stop.store(true, Ordering::Relaxed);
    let log = writing.await.unwrap();
    desk.fine(&export).await;
    let (events, end) = (exported(&desk.path("all")), log.head.position);
    assert_eq!(positions(&events), (1..=end).collect::<Vec<_>>());
    assert!(events.iter().all(|(position, event)| event["event_type"] == story(*position)["type"]));
    assert!(end > 500, "so few events are no storm: {end}");
}
