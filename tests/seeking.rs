//! Finding a place in the log, by position and by time.

use std::{ops::Range, sync::Arc, sync::atomic::Ordering};

use async_nats::Client;
use event_log::{Checkpoint, Encoded, EventLog, FollowError, Head, NewFrame, Target};
use serde_json::json;
use uuid::Uuid;

use crate::harness::Servers;

/// A log of events that happen once in a minute, from midnight on: the first at 00:01.
struct Log {
    log: EventLog,
    client: Client,
    head: Head,
    _servers: Arc<Servers>,
}

impl Log {
    async fn empty() -> Self {
        let servers = Servers::shared().await;
        let client = service_kit::nats::connect(&servers.nats.url(), "test").await.unwrap();
        let log = EventLog::new(client.clone(), &format!("t{}", Uuid::now_v7().simple()));
        log.ensure().await.unwrap();
        Self { log, client, head: Head::default(), _servers: servers }
    }

    /// Frames with so many events each.
    async fn of<const N: usize>(counts: [u64; N]) -> Self {
        let mut log = Self::empty().await;
        for count in counts {
            let first = log.head.position + 1;
            log.append(first..first + count, minute).await;
        }
        log
    }

    async fn append(&mut self, positions: Range<u64>, time: impl Fn(u64) -> String) {
        let mut events = Encoded::default();
        for position in positions {
            let event = json!({"specversion": "1.0", "id": position.to_string(), "source": "/test",
                "type": "account.closed", "subject": Uuid::nil(), "time": time(position),
                "datacontenttype": "application/json", "dataschema": "urn:headwater:account.closed:1", "data": {},
                "position": position.to_string(), "previous": (position - 1).to_string()});
            events.push(&serde_json::from_str(&event.to_string()).unwrap());
        }
        let frame = NewFrame::new(self.head, self.head.term + 1, events);
        self.head = self.log.append(&frame, self.head).await.unwrap();
    }

    async fn seek(&self, target: Target) -> Checkpoint {
        self.log.seek(target).await.unwrap()
    }

    /// The positions in the next frame after the place that was sought, if there is one; and the stream
    /// sequence of that frame.
    async fn sought(&self, target: Target) -> Option<(u64, Range<u64>)> {
        let mut follower = self.log.follow(self.seek(target).await);
        let frames = follower.available().await.unwrap();
        frames.first().map(|frame| (frame.sequence, frame.first..frame.last() + 1))
    }
}

fn minute(position: u64) -> String {
    format!("2026-01-01T{:02}:{:02}:00Z", position / 60, position % 60)
}

fn at(text: &str) -> Target {
    Target::Time(format!("2026-01-01T{text}:00Z").parse().unwrap())
}

#[tokio::test]
async fn the_next_frame_after_a_position_that_was_sought_has_it() {
    let log = Log::of([3, 1, 4, 2, 5]).await;
    for (sequence, positions) in [(1, 1..4), (2, 4..5), (3, 5..9), (4, 9..11), (5, 11..16)] {
        for position in positions.clone() {
            let sought = log.sought(Target::Position(position)).await;
            assert_eq!(sought, Some((sequence, positions.clone())), "position {position}");
        }
    }
}

#[tokio::test]
async fn the_next_frame_after_a_time_that_was_sought_has_the_first_event_from_then_on() {
    let log = Log::of([3, 1, 4]).await;
    for (time, sequence) in
        [("00:00", 1), ("00:01", 1), ("00:03", 1), ("00:04", 2), ("00:05", 3), ("00:08", 3)]
    {
        assert_eq!(log.sought(at(time)).await.unwrap().0, sequence, "{time}");
    }
    // Between the last event of a frame and the first of the next.
    let between = Target::Time("2026-01-01T00:04:30Z".parse().unwrap());
    assert_eq!(log.sought(between).await.unwrap().0, 3);
}

#[tokio::test]
async fn of_events_with_one_time_the_first_is_found() {
    let mut log = Log::of([2]).await;
    for _ in 0..5 {
        let first = log.head.position + 1;
        log.append(first..first + 2, |_| minute(3)).await;
    }
    assert_eq!(log.sought(at("00:03")).await, Some((2, 3..5)));
    assert_eq!(log.sought(at("00:02")).await, Some((1, 1..3)));
    assert_eq!(log.sought(at("00:04")).await, None);
}

#[tokio::test]
async fn what_is_beyond_the_end_leads_to_the_end() {
    let log = Log::of([3, 2]).await;
    let end: Checkpoint = log.head.into();
    for target in [Target::Position(6), Target::Position(u64::MAX), at("00:06")] {
        assert_eq!(log.seek(target).await, end, "{target:?}");
    }
}

#[tokio::test]
async fn in_an_empty_log_everything_is_at_the_start() {
    let log = Log::empty().await;
    for target in [Target::Position(0), Target::Position(1), Target::Position(9), at("00:01")] {
        assert_eq!(log.seek(target).await, Checkpoint::default(), "{target:?}");
    }
}

#[tokio::test]
async fn frames_without_events_are_passed_over() {
    let log = Log::of([0, 0, 2, 0, 0, 0, 1, 0]).await;
    for (target, found) in [
        (Target::Position(0), Some((1, 1..1))),
        (Target::Position(1), Some((3, 1..3))),
        (Target::Position(3), Some((7, 3..4))),
        (at("00:00"), Some((3, 1..3))),
        (at("00:02"), Some((3, 1..3))),
        (at("00:03"), Some((7, 3..4))),
    ] {
        assert_eq!(log.sought(target).await, found, "{target:?}");
    }
    assert_eq!(log.seek(at("00:04")).await, log.head.into());
    let only_terms = Log::of([0, 0, 0]).await;
    for target in [Target::Position(1), at("00:00")] {
        assert_eq!(only_terms.seek(target).await, only_terms.head.into(), "{target:?}");
    }
}

#[tokio::test]
async fn the_price_of_a_seek_is_the_logarithm_of_the_log() {
    let mut log = Log::empty().await;
    for position in 1..=300 {
        log.append(position..position + 1, minute).await;
    }
    let requests = || log.client.statistics().out_messages.load(Ordering::Relaxed);
    for target in [Target::Position(1), Target::Position(77), Target::Position(300), at("02:30")] {
        let before = requests();
        log.seek(target).await;
        // The end of the log, and one for each halving of 300 frames.
        assert!(requests() - before <= 10, "{} requests for {target:?}", requests() - before);
    }
    // What cannot be there is not looked for.
    let before = requests();
    log.seek(Target::Position(301)).await;
    assert_eq!(requests() - before, 1);
}

#[tokio::test]
async fn a_reader_that_began_in_the_middle_notices_a_replaced_log_as_any_other() {
    let log = Log::of([3, 1, 4]).await;
    let sought = log.seek(Target::Position(5)).await;
    let jetstream = async_nats::jetstream::new(log.client.clone());
    jetstream.delete_stream(format!("{}_LOG", log.log.namespace())).await.unwrap();
    log.log.ensure().await.unwrap();
    let mut other = Log { head: Head::default(), ..log };
    for _ in 0..3 {
        let first = other.head.position + 1;
        other.append(first..first + 2, minute).await;
    }
    let error = other.log.follow(sought).available().await.unwrap_err();
    assert!(matches!(error, FollowError::Replaced { sequence: 2, .. }), "{error}");
}

#[tokio::test]
async fn replay_begins_with_the_event_that_was_asked_for_though_its_frame_begins_before() {
    let log = Log::of([3, 1, 4]).await;
    for (from, first) in [("0", 1), ("6", 6), ("2026-01-01T00:02:00Z", 2), ("2026-01-01", 1)] {
        let target = replay::moment::parse(from).unwrap();
        let mut events = replay::Events::from(&log.log, target).await.unwrap();
        let mut positions = Vec::new();
        while let Some(event) = events.available().await.unwrap() {
            positions.push(event.position);
        }
        assert_eq!(positions, (first..=8).collect::<Vec<_>>(), "from {from}");
    }
}
