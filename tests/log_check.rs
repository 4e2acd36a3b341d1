//! `replay check`: each rule of the log, broken in a log of its own, is found where it is broken.

use std::{
    ops::{Deref, DerefMut},
    process::Command,
    sync::Arc,
};

use serde_json::json;
use uuid::Uuid;

use crate::{
    harness::{Servers, World, programs},
    written_log::{Log, closed, event, registered},
};

const ADA: u128 = 1;
const BOB: u128 = 2;

/// Servers, and a log that is written by hand.
struct Checked {
    log: Log,
    servers: Arc<Servers>,
}

impl Deref for Checked {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl DerefMut for Checked {
    fn deref_mut(&mut self) -> &mut Log {
        &mut self.log
    }
}

impl Checked {
    /// In the first frame, Ada registers.
    async fn with_ada() -> Self {
        let servers = Servers::shared().await;
        let client = service_kit::nats::connect(&servers.nats.url(), "test").await.unwrap();
        let mut log = Log::of(client, &format!("t{}", Uuid::now_v7().simple())).await;
        log.append(&[registered(1, ADA, "ada")]).await;
        Self { log, servers }
    }

    /// What is wrong: stream sequence, position and some words of each finding, and no others.
    async fn is_wrong<const N: usize>(&self, expected: [(u64, u64, &str); N]) {
        let findings = replay::check(&self.log.log, |_| ()).await.unwrap();
        let found: Vec<_> = findings.first.iter().map(ToString::to_string).collect();
        assert_eq!(findings.count, N as u64, "{found:#?}");
        for (finding, (sequence, position, words)) in findings.first.iter().zip(expected) {
            assert_eq!((finding.sequence, finding.position), (sequence, position), "{found:#?}");
            assert!(finding.problem.contains(words), "no `{words}` in {found:#?}");
        }
    }
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
    let mut log = Checked::with_ada().await;
    log.append_changed(&[closed(5, 1, ADA)], |frame| frame.first = 5).await;
    log.is_wrong([(2, 5, "starts at position 5, expected 2")]).await;
}

#[tokio::test]
async fn a_term_that_goes_back_is_found() {
    let mut log = Checked::with_ada().await;
    log.append_changed(&[closed(2, 1, ADA)], |frame| frame.term = 6).await;
    log.is_wrong([(2, 2, "is of term 6, after one of term 7")]).await;
}

#[tokio::test]
async fn a_frame_that_names_another_as_the_one_before_it_is_found() {
    let mut log = Checked::with_ada().await;
    log.append_changed(&[closed(2, 1, ADA)], |frame| frame.previous = Some(Uuid::nil())).await;
    log.append(&[registered(3, BOB, "bob")]).await;
    log.is_wrong([(2, 2, "as the frame before it")]).await;
}

#[tokio::test]
async fn a_message_that_is_no_frame_is_found_and_what_follows_is_checked() {
    let mut log = Checked::with_ada().await;
    log.append_rubbish().await;
    log.append(&[registered(2, BOB, "ada")]).await;
    log.is_wrong([(2, 2, "is missing"), (3, 2, "takes `ada@example.org`")]).await;
}

#[tokio::test]
async fn an_event_out_of_its_aggregates_chain_is_found() {
    let mut log = Checked::with_ada().await;
    log.append(&[registered(2, BOB, "bob"), closed(3, 2, ADA)]).await;
    log.is_wrong([(2, 3, "names 2 as its aggregate's previous event, which is 1")]).await;
}

#[tokio::test]
async fn a_claim_with_two_holders_is_found_at_the_position_where_it_gets_the_second() {
    let mut log = Checked::with_ada().await;
    log.append(&[closed(2, 1, ADA), registered(3, BOB, "ada"), registered(4, 3, "ada")]).await;
    log.is_wrong([(2, 4, "takes `ada@example.org`, which another aggregate holds")]).await;
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_is_found_and_its_aggregates_chain_goes_on() {
    let mut log = Checked::with_ada().await;
    log.append(&[event(2, 1, ADA, "account.exploded", json!({})), closed(3, 2, ADA)]).await;
    log.is_wrong([(2, 2, "cannot be read")]).await;
}

#[tokio::test]
async fn time_that_goes_back_is_found() {
    let mut log = Checked::with_ada().await;
    let mut early = closed(2, 1, ADA);
    early["time"] = json!("2026-01-01T00:00:00Z");
    log.append(&[early]).await;
    log.is_wrong([(2, 2, "is earlier than the event before it")]).await;
}

#[tokio::test]
async fn the_program_lists_what_is_wrong_and_fails() {
    let mut log = Checked::with_ada().await;
    let check = async |log: &Checked| {
        let mut command = Command::new(programs().await.join("replay"));
        command.args(["check", "--namespace", log.log.log.namespace()]);
        command.args(["--nats-url", &log.servers.nats.url_as("replay")]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (is_well, said) = check(&log).await;
    assert!(is_well && said.contains("1 events of 1 aggregates in 1 frames"), "{said}");
    log.append(&[registered(2, BOB, "ada")]).await;
    let (is_well, said) = check(&log).await;
    assert!(!is_well && said.contains("position 2, frame 2: takes `ada@example.org`"), "{said}");
}
