//! `--stream` reads a mirror and nothing but the mirror: here the log itself is gone.

use async_nats::jetstream::{self, stream::Config};

use super::*;
use crate::harness::until;

const MIRROR: &str = include_str!("../../nats/streams/log-mirror.json");
const EVENTS: u64 = 30;

#[tokio::test]
async fn every_command_reads_the_mirror_that_it_is_told_to_read() {
    let desk = Desk::with_a_mirror_alone().await;
    let id = uuid::Uuid::from_u128(1).to_string();
    let of_mirror = async |arguments: &[&str]| {
        desk.run(arguments).await.fails("--namespace");
        desk.fine(&[arguments, &["--stream", &desk.mirror()]].concat()).await.out
    };
    assert!(of_mirror(&["streams"]).await.contains("30 events"));
    assert!(of_mirror(&["check"]).await.contains("30 events"));
    assert!(of_mirror(&["history", "account", &id]).await.contains("user1@example.org"));
    assert_eq!(of_mirror(&["view", "accounts", "--format", "jsonl"]).await.lines().count(), 3);
    of_mirror(&["export", "--out", "all", "--format", "jsonl"]).await;
    assert_eq!(positions(&exported(&desk.path("all"))), (1..=EVENTS).collect::<Vec<_>>());

    let mirror = desk.mirror();
    let mut tail = desk.command(&["tail", "--from", "30", "--stream", &mirror]).await;
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let out = tail.stdout.take().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    assert!(lines.next_line().await.unwrap().unwrap().contains("account.closed"));
    tail.kill().await.unwrap();
}

impl Desk {
    pub fn mirror(&self) -> String {
        format!("{}_LOG_MIRROR", self.log.log.namespace())
    }

    /// With a mirror of the log, and without the log.
    pub async fn with_a_mirror_alone() -> Self {
        let desk = Self::with_events(EVENTS).await;
        let jetstream = jetstream::new(desk.client.clone());
        let namespace = desk.log.log.namespace();
        let mirror: Config = serde_json::from_str(&MIRROR.replace("{namespace}", namespace)).unwrap();
        jetstream.create_stream(mirror).await.unwrap();
        until("the mirror has caught up", async || {
            let stream = jetstream.get_stream(desk.mirror()).await.unwrap();
            stream.cached_info().state.last_sequence >= desk.head.sequence
        })
        .await;
        jetstream.delete_stream(format!("{namespace}_LOG")).await.unwrap();
        desk
    }
}
