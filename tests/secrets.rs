//! Whatever is secret is in no log line, no error, no answer, and no `--help`.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use futures::future::join_all;
use stack::ports;
use tokio::{process::Command, time::timeout};

use crate::harness::{programs, until};

/// Stands in every setting that holds a secret.
const PLANTED: &str = "planted7secret";
const PATIENCE: Duration = Duration::from_secs(60);
const SERVICES: [&str; 4] = ["command-service", "projector", "query-service", "task-worker"];

/// A program that is told secrets, as its environment, and `place`, at which nobody listens or which is no place at all.
async fn told(program: &str, arguments: &[&str], place: &str) -> Command {
    let mut command = Command::new(programs().await.join(program));
    command
        .args(arguments)
        .env("NATS_URL", format!("nats://user:{PLANTED}@{place}"))
        .env("DATABASE_URL", format!("postgres://user:{PLANTED}@{place}/headwater"))
        .env("HEADWATER_STANDBY_URL", format!("postgres://user:{PLANTED}@{place}/headwater"))
        .env("HEADWATER_MAIL", format!("smtp://user:{PLANTED}@{place}"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{place}"))
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={PLANTED}"))
        .env("RUST_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn nowhere() -> String {
    format!("127.0.0.1:{}", ports::next_free(0).unwrap())
}

/// What it said until it ended.
async fn said(mut command: Command) -> String {
    let Output { stdout, stderr, .. } = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

fn holds_no_secret(what: &str, text: &str) {
    assert!(!text.contains(PLANTED), "{what} tells a secret:\n{text}");
}

#[tokio::test]
async fn help_tells_no_secret() {
    for program in [&SERVICES[..], &["replay", "stack"]].concat() {
        let help = said(told(program, &["--help"], &nowhere()).await).await;
        assert!(help.contains("Usage:"), "{program}: {help}");
        holds_no_secret(&format!("{program} --help"), &help);
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named_without_its_secret() {
    let tried = [
        ("command-service", &[][..]),
        ("projector", &[]),
        ("projector", &["migrate"]),
        ("projector", &["builds"]),
        ("query-service", &[]),
        ("task-worker", &[]),
        ("task-worker", &["policies", "list"]),
        ("replay", &["streams"]),
        ("replay", &["verify"]),
    ];
    for (program, arguments) in tried {
        let error = said(told(program, arguments, "127.0.0.1:not-a-port").await).await;
        assert!(!error.is_empty(), "{program} {arguments:?} said nothing");
        holds_no_secret(&format!("{program} {arguments:?}"), &error);
    }
}

#[tokio::test]
async fn a_service_that_reaches_nobody_says_so_without_what_it_would_have_said_to_them() {
    join_all(SERVICES.map(alone)).await;
}

/// Starts a service that reaches nobody, asks it how it is until it has tried, and ends it.
async fn alone(program: &'static str) {
    let (listen, folder) = (nowhere(), tempfile::tempdir().unwrap());
    let mut command = told(program, &[], &nowhere()).await;
    command.env("HEADWATER_LISTEN", &listen).env("HEADWATER_STATE_DIR", folder.path());
    let child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{listen}{path}")).await.ok()?;
        answer.text().await.ok()
    };
    let mut ready = String::new();
    until(&format!("{program} says that it is not ready"), async || {
        ready = get("/health/ready").await.unwrap_or_default();
        ready.contains("not-ready")
    })
    .await;
    holds_no_secret(&format!("{program} at /health/ready"), &ready);
    for path in ["/metrics", "/", "/views", "/quarantine", "/tasks", "/openapi.json"] {
        holds_no_secret(&format!("{program} at {path}"), &get(path).await.unwrap_or_default());
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("INFO") || log.contains("WARN"), "{program}: {log}");
    holds_no_secret(&format!("{program}'s log"), &log);
}
