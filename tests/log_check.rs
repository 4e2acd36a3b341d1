//! `replay check`: each rule of the log, broken in a log of its own, is found where it is broken.

use std::{fs, process::Command, sync::Arc};

use event_log::{Encoded, EventLog, Head, NewFrame};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Servers, World};

const ADA: u128 = 1;
const BOB: u128 = 2;

/// A log that is written by hand.
struct Log {
    log: EventLog,
    client: async_nats::Client,
    head: Head,
    _servers: Arc<Servers>,
}

impl Log {
    /// In the first frame, Ada registers.
    async fn with_ada() -> Self {
        let servers = Servers::shared().await;
        let client = service_kit::nats::connect(&servers.nats.url(), "test").await.unwrap();
        let log = EventLog::new(client.clone(), &format!("t{}", Uuid::now_v7().simple()));
        log.ensure().await.unwrap();
        let mut log = Self { log, client, head: Head::default(), _servers: servers };
        log.append(&[registered(1, ADA, "ada")]).await;
        log
    }

    async fn append(&mut self, events: &[Value]) {
        self.append_changed(events, |_| ()).await;
    }

    /// Appends a frame that is not what a writer would append.
    async fn append_changed(&mut self, events: &[Value], change: impl Fn(&mut NewFrame)) {
        let mut encoded = Encoded::default();
        events.iter().for_each(|event| encoded.push(&serde_json::from_str(&event.to_string()).unwrap()));
        let mut frame = NewFrame::new(self.head, 7, encoded);
        change(&mut frame);
        self.head = self.log.append(&frame, self.head).await.unwrap();
    }

    /// Stores a message that is no frame.
    async fn append_rubbish(&mut self) {
        let jetstream = async_nats::jetstream::new(self.client.clone());
        let subject = format!("{}.log.0", self.log.namespace());
        let ack = jetstream.publish(subject, "rubbish".into()).await.unwrap().await.unwrap();
        self.head = Head { sequence: ack.sequence, frame_id: None, ..self.head };
    }

    /// What is wrong: stream sequence, position and some words of each finding, and no others.
    async fn is_wrong<const N: usize>(&self, expected: [(u64, u64, &str); N]) {
        let findings = replay::check(&self.log, |_| ()).await.unwrap();
        let found: Vec<_> = findings.first.iter().map(ToString::to_string).collect();
        assert_eq!(findings.count, N as u64, "{found:#?}");
        for (finding, (sequence, position, words)) in findings.first.iter().zip(expected) {
            assert_eq!((finding.sequence, finding.position), (sequence, position), "{found:#?}");
            assert!(finding.problem.contains(words), "no `{words}` in {found:#?}");
        }
    }
}

fn event(position: u64, previous: u64, id: u128, event_type: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": position.to_string(), "source": "/test", "type": event_type,
        "subject": Uuid::from_u128(id), "time": format!("2026-01-01T00:00:{position:02}Z"),
        "datacontenttype": "application/json", "dataschema": format!("urn:headwater:{event_type}:1"), "data": data,
        "position": position.to_string(), "previous": previous.to_string()})
}

fn registered(position: u64, id: u128, name: &str) -> Value {
    let data = json!({"email": format!("{name}@example.org"), "username": format!("user-{id}")});
    event(position, 0, id, "account.registered", data)
}

fn closed(position: u64, previous: u64, id: u128) -> Value {
    event(position, previous, id, "account.closed", json!({}))
}

#[tokio::test]
async fn a_log_that_the_services_wrote_is_well() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    world.placed(ada, 100, "2026-01-01").await;
    let findings = replay::check(&world.place.log().await, |_| ()).await.unwrap();
    assert!(findings.is_clean(), "{findings:?}");
    assert_eq!((findings.events, findings.aggregates), (2, 2));
}

#[tokio::test]
async fn a_gap_between_positions_is_found() {
    let mut log = Log::with_ada().await;
    log.append_changed(&[closed(5, 1, ADA)], |frame| frame.first = 5).await;
    log.is_wrong([(2, 5, "starts at position 5, expected 2")]).await;
}

#[tokio::test]
async fn a_term_that_goes_back_is_found() {
    let mut log = Log::with_ada().await;
    log.append_changed(&[closed(2, 1, ADA)], |frame| frame.term = 6).await;
    log.is_wrong([(2, 2, "is of term 6, after one of term 7")]).await;
}

#[tokio::test]
async fn a_frame_that_names_another_as_the_one_before_it_is_found() {
    let mut log = Log::with_ada().await;
    log.append_changed(&[closed(2, 1, ADA)], |frame| frame.previous = Some(Uuid::nil())).await;
    log.append(&[registered(3, BOB, "bob")]).await;
    log.is_wrong([(2, 2, "as the frame before it")]).await;
}

#[tokio::test]
async fn a_message_that_is_no_frame_is_found_and_what_follows_is_checked() {
    let mut log = Log::with_ada().await;
    log.append_rubbish().await;
    log.append(&[registered(2, BOB, "ada")]).await;
    log.is_wrong([(2, 2, "is missing"), (3, 2, "takes `ada@example.org`")]).await;
}

#[tokio::test]
async fn an_event_out_of_its_aggregates_chain_is_found() {
    let mut log = Log::with_ada().await;
    log.append(&[registered(2, BOB, "bob"), closed(3, 2, ADA)]).await;
    log.is_wrong([(2, 3, "names 2 as its aggregate's previous event, which is 1")]).await;
}

#[tokio::test]
async fn a_claim_with_two_holders_is_found_at_the_position_where_it_gets_the_second() {
    let mut log = Log::with_ada().await;
    log.append(&[closed(2, 1, ADA), registered(3, BOB, "ada"), registered(4, 3, "ada")]).await;
    log.is_wrong([(2, 4, "takes `ada@example.org`, which another aggregate holds")]).await;
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_is_found_and_its_aggregates_chain_goes_on() {
    let mut log = Log::with_ada().await;
    log.append(&[event(2, 1, ADA, "account.exploded", json!({})), closed(3, 2, ADA)]).await;
    log.is_wrong([(2, 2, "cannot be read")]).await;
}

#[tokio::test]
async fn time_that_goes_back_is_found() {
    let mut log = Log::with_ada().await;
    let mut early = closed(2, 1, ADA);
    early["time"] = json!("2026-01-01T00:00:00Z");
    log.append(&[early]).await;
    log.is_wrong([(2, 2, "is earlier than the event before it")]).await;
}

#[tokio::test]
async fn the_program_lists_what_is_wrong_and_fails() {
    let mut log = Log::with_ada().await;
    let check = async |log: &Log| {
        let mut command = Command::new(replay_program());
        command.args(["check", "--namespace", log.log.namespace()]);
        command.args(["--nats-url", &log._servers.nats.url()]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (is_well, said) = check(&log).await;
    assert!(is_well && said.contains("1 events of 1 aggregates in 1 frames"), "{said}");
    log.append(&[registered(2, BOB, "ada")]).await;
    let (is_well, said) = check(&log).await;
    assert!(!is_well && said.contains("position 2, frame 2: takes `ada@example.org`"), "{said}");
}

/// `replay`, built as the tests were.
fn replay_program() -> std::path::PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap().parent().unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap();
    let built = Command::new(std::env::var_os("CARGO").expect("tests are run by cargo"))
        .args(["build", "--quiet", "--package", "replay"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }, "--target-dir"])
        .arg(folder.parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success());
    let program = folder.join("replay");
    assert!(fs::exists(&program).unwrap());
    program
}
