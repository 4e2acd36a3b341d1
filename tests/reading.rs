//! Readers of the log: what they do when the server goes away under them.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::Client;
use event_log::{Checkpoint, Encoded, EventLog, FollowError, Head, NewFrame};
use rustix::process::{Pid, kill_process};
use stack::{
    process::Signal,
    servers::{Nats, ServerConfig, temporary_folder},
};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::until;

/// How long a reader waits for an answer that it has no reason to give up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A log on a server of its own, to be maltreated.
struct OwnServer {
    nats: Nats,
    client: Client,
    log: EventLog,
    _folder: TempDir,
}

impl OwnServer {
    async fn start() -> Self {
        let folder = temporary_folder().unwrap();
        let nats = Nats::start(ServerConfig::within(folder.path().join("nats")).unwrap()).await.unwrap();
        let client = service_kit::nats::connect(&nats.url(), "test").await.unwrap();
        let log = EventLog::new(client.clone(), "test");
        log.ensure().await.unwrap();
        Self { nats, client, log, _folder: folder }
    }

    /// Appends a frame without events.
    async fn append(&self, head: Head) -> Head {
        self.log.append(&frame(head), head).await.unwrap()
    }

    fn requests(&self) -> u64 {
        self.client.statistics().out_messages.load(Ordering::Relaxed)
    }

    /// How often the client has connected.
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// The server hears what comes from now on, and does not answer any more.
    fn freeze(&self) {
        let pid = Pid::from_raw(i32::try_from(self.nats.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
    }

    /// Ends the server and starts it again. Returns how long the client was without it.
    async fn replace(&mut self) -> Duration {
        let (lost, connects) = (Instant::now(), self.connects());
        self.nats.kill().await;
        self.nats.restart().await.unwrap();
        until("the client is back", async || self.connects() > connects).await;
        lost.elapsed()
    }
}

fn frame(head: Head) -> NewFrame {
    NewFrame::new(head, 1, Encoded::default())
}

#[tokio::test]
async fn a_read_that_went_down_with_its_connection_is_repeated_at_once() {
    let mut server = OwnServer::start().await;
    let head = server.append(Head::default()).await;
    let mut follower = server.log.follow(Checkpoint::default());
    assert_eq!(follower.next().await.unwrap().len(), 1);
    server.append(head).await;

    server.freeze();
    let requests = server.requests();
    let reading = tokio::spawn(async move { follower.available().await });
    until("the request was sent", async || server.requests() > requests).await;
    let lost_for = server.replace().await;
    let answer = reading.await.unwrap();
    // A machine that takes longer to start a server has the right to an error.
    if lost_for < ANSWER_TIMEOUT / 2 {
        assert_eq!(answer.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_append_whose_answer_went_down_with_its_connection_is_looked_up_at_once() {
    let mut server = OwnServer::start().await;
    let head = server.append(Head::default()).await;

    server.freeze();
    let requests = server.requests();
    let (log, frame) = (server.log.clone(), frame(head));
    let appending = tokio::spawn(async move { (log.append(&frame, head).await, Instant::now()) });
    until("the request was sent", async || server.requests() > requests).await;
    let lost_for = server.replace().await;
    let back = Instant::now();
    let (appended, done) = appending.await.unwrap();
    assert_eq!(appended.unwrap().sequence, 2);
    if lost_for < ANSWER_TIMEOUT / 2 {
        let waited = done.saturating_duration_since(back);
        assert!(waited < ANSWER_TIMEOUT / 2, "looked up {waited:?} after the server was back");
    }
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was_when_the_server_is_back() {
    let mut server = OwnServer::start().await;
    let mut head = Head::default();
    let mut follower = server.log.follow(Checkpoint::default());
    for round in 1..=3 {
        head = server.append(head).await;
        head = server.append(head).await;
        let mut read = 0;
        while read < 2 {
            match follower.next().await {
                Ok(frames) => read += frames.len(),
                Err(FollowError::Unavailable(_)) => {}
                Err(error) => panic!("in round {round}: {error}"),
            }
        }
        assert_eq!(follower.checkpoint(), head.into());
        server.replace().await;
    }
}

#[tokio::test]
async fn who_gives_up_waiting_for_frames_misses_none_of_them() {
    let server = OwnServer::start().await;
    let mut head = Head::default();
    // More than come with one request, so that the next batch is asked for ahead.
    for _ in 0..600 {
        head = server.append(head).await;
    }
    let mut follower = server.log.follow(Checkpoint::default());
    let mut sequences = Vec::new();
    while sequences.len() < 600 {
        // Too short for a whole batch, most of the time.
        if let Ok(frames) = tokio::time::timeout(Duration::from_millis(2), follower.next()).await {
            sequences.extend(frames.unwrap().iter().map(|frame| frame.sequence));
        }
    }
    assert_eq!(sequences, (1..=600).collect::<Vec<u64>>());
}
