//! Whoever is told to stop ends soon, says so with 130, and leaves nothing half-written.

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::*;
use crate::harness::{World, until};

/// Slow enough that none of the commands below comes to its end while a test waits for it.
pub const SLOWLY: [&str; 2] = ["--max-rate", "50"];

/// Sends a signal to a program that is in the middle of something, and waits for its end.
pub async fn stop(mut program: Child, signal: Signal) -> Option<i32> {
    let id = program.id().unwrap().cast_signed();
    // Until then the signal would end it at once, as it ends every program.
    until("the program heeds signals", async || {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        caught & (1 << (signal.as_raw() - 1)) != 0
    })
    .await;
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    let mut status = None;
    until("the program ends", async || {
        status = program.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.unwrap().code()
}

fn quiet(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn commands_that_are_stopped_end_with_130_and_leave_no_file() {
    let desk = Desk::with_many_events().await;
    let id = uuid::Uuid::from_u128(1).to_string();
    let commands: [&[&str]; 6] = [
        &["view", "orders", "--out", "orders.csv"],
        &["view", "orders", "--format", "csv"],
        &["tail"],
        &["streams"],
        &["history", "account", &id],
        &["check"],
    ];
    for arguments in commands {
        let program = quiet(&mut desk.command(&[arguments, &SLOWLY].concat()).await);
        assert_eq!(stop(program, Signal::INT).await, Some(130), "{arguments:?}");
    }
    let left: Vec<_> = fs::read_dir(desk.folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_export_that_is_stopped_is_gone_on_with() {
    let desk = Desk::with_many_events().await;
    let export = ["export", "--out", "all", "--format", "jsonl"];
    let program = quiet(&mut desk.command(&[&export[..], &SLOWLY].concat()).await);
    assert_eq!(stop(program, Signal::INT).await, Some(130));
    assert!(exported(&desk.path("all")).is_empty());
    desk.fine(&export).await;
    assert_eq!(positions(&exported(&desk.path("all"))), (1..=MANY_EVENTS).collect::<Vec<_>>());

    let follow = [&export[..], &["--follow"]].concat();
    let program = quiet(&mut desk.command(&follow).await);
    assert_eq!(stop(program, Signal::INT).await, Some(130));
    // Whoever looks after it wants it to end, which is no failure.
    let program = quiet(&mut desk.command(&follow).await);
    assert_eq!(stop(program, Signal::TERM).await, Some(0));
}

#[tokio::test]
async fn a_verification_that_is_stopped_gives_no_verdict() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    for _ in 0..20 {
        world.placed(ada, 100, "2026-01-01").await;
    }
    let mut verify = Command::new(programs().await.join("replay"));
    verify.args(["verify", "--namespace", &world.place.namespace, "--max-rate", "1"]);
    verify.env("NATS_URL", world.place.servers.nats.url()).env("DATABASE_URL", &world.place.database_url);
    let program = verify.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut program = program.unwrap();
    let mut out = program.stdout.take().unwrap();
    assert_eq!(stop(program, Signal::INT).await, Some(130));
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut out, &mut said).await.unwrap();
    assert_eq!(said, "");
}
