//! How fast a log is read, and a place in it is found: appends events, follows them from the start, as a rebuild
//! does, and seeks.
//!
//! ```sh
//! NATS_URL=nats://127.0.0.1:4222 cargo run --release -p event-log --example reading -- 1000000 1000 0
//! ```
//! The numbers: events; events a frame; nanoseconds that somebody works on each event, as a store does that folds
//! it. The log lies in a namespace of its own, `measure-<events>-<events a frame>`, and is kept: a second run only
//! reads.

use std::{
    env,
    error::Error,
    hint,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use event_log::{Checkpoint, Encoded, Envelope, EventLog, Head, NewFrame, Target};
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = |index, default| env::args().nth(index).map_or(Ok(default), |text| text.parse::<u64>());
    let (events, frame_events) = (argument(1, 1_000_000)?, argument(2, 1_000)?);
    let work = Duration::from_nanos(argument(3, 0)?);
    let url = env::var("NATS_URL").unwrap_or("nats://127.0.0.1:4222".to_owned());
    let client = async_nats::connect(url).await?;
    let log = EventLog::new(client.clone(), &format!("measure-{events}-{frame_events}"));
    log.ensure().await?;
    append(&log, events, frame_events).await?;
    for round in 1..=ROUNDS {
        read(&log, round, work).await?;
    }
    let statistics = client.statistics();
    for part in 0..=4 {
        let position = (events * part / 4).max(1);
        let (started, before) = (Instant::now(), statistics.out_messages.load(Ordering::Relaxed));
        let checkpoint = log.seek(Target::Position(position)).await?;
        let (took, requests) = (started.elapsed(), statistics.out_messages.load(Ordering::Relaxed) - before);
        println!("position {position} comes after {}: {requests} requests, {took:.2?}", checkpoint.position);
        let time = log.follow(checkpoint).next().await?[0].events[0].time;
        let (started, before) = (Instant::now(), statistics.out_messages.load(Ordering::Relaxed));
        let checkpoint = log.seek(Target::Time(time)).await?;
        let (took, requests) = (started.elapsed(), statistics.out_messages.load(Ordering::Relaxed) - before);
        println!("{time} comes after {}: {requests} requests, {took:.2?}", checkpoint.position);
    }
    Ok(())
}

/// Follows the log from its start to its end, and works on each event.
async fn read(log: &EventLog, round: usize, work: Duration) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let mut follower = log.follow(Checkpoint::default());
    let (mut read, mut frames_read) = (0, 0);
    loop {
        let frames = follower.available().await?;
        if frames.is_empty() {
            break;
        }
        for frame in frames {
            frames_read += 1;
            read += frame.events.len();
            let until = Instant::now() + work * u32::try_from(frame.events.len())?;
            while Instant::now() < until {
                hint::spin_loop();
            }
        }
    }
    let took = started.elapsed();
    let rate = read as f64 / took.as_secs_f64();
    println!("round {round}: {read} events in {frames_read} frames in {took:.2?}: {rate:.0} events/s");
    Ok(())
}

async fn append(log: &EventLog, events: u64, frame_events: u64) -> Result<(), Box<dyn Error>> {
    let mut head: Head = log.head().await?;
    let started = Instant::now();
    let from = head.position;
    let mut bytes = 0;
    while head.position < events {
        let mut encoded = Encoded::default();
        for position in head.position + 1..=(head.position + frame_events).min(events) {
            encoded.push(&registered(position)?);
        }
        bytes += encoded.bytes();
        head = log.append(&NewFrame::new(head, head.term.max(1), encoded), head).await?;
    }
    println!(
        "appended {} events, {} MB, in {:.2?}",
        head.position - from,
        bytes / 1_000_000,
        started.elapsed()
    );
    Ok(())
}

/// A registration, with all that the command-service writes for one.
fn registered(position: u64) -> Result<Envelope, serde_json::Error> {
    let data = format!(r#"{{"email":"customer-{position}@example.org","username":"customer-{position}"}}"#);
    Ok(Envelope {
        specversion: Envelope::SPECVERSION.into(),
        id: position.to_string(),
        source: "/measure".to_owned(),
        r#type: "account.registered".to_owned(),
        subject: Uuid::new_v5(&Uuid::NAMESPACE_OID, &position.to_be_bytes()),
        time: Timestamp::now(),
        datacontenttype: Envelope::DATACONTENTTYPE.into(),
        dataschema: Envelope::schema("account.registered", 1),
        data: RawValue::from_string(data)?,
        position,
        previous: 0,
        idempotencykey: Some(Uuid::now_v7().to_string()),
        commandhash: Some(format!("{position:016x}")),
        correlationid: None,
        causationid: None,
        actor: None,
        traceparent: None,
    })
}
