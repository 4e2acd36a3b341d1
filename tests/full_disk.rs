//! A log without room: commands are answered 503 and told when to come again, nothing acknowledged is lost, and
//! commands flow again when there is room, without a restart of our services.

use clap::Parser;
use event_log::EventLog;
use reqwest::StatusCode;
use serde_json::{Value, json};
use service_kit::Shutdown;
use stack::servers::{Nats, ServerConfig, temporary_folder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::disk::Disk;

/// As the repository's, with little room.
const LITTLE_ROOM: &str = "
    listen: $NATS_LISTEN
    http: $NATS_MONITOR_LISTEN
    jetstream { store_dir: $NATS_STORE_DIR, sync_interval: always, max_file_store: 4MB }
";
/// A disk is full after so many commands, or never.
const COMMANDS_MAX: usize = 3_000;

/// A NATS server and a command-service, and what was acknowledged.
struct World {
    nats: Nats,
    client: async_nats::Client,
    log: EventLog,
    url: String,
    shutdown: Shutdown,
    /// Of the command-service.
    _state: TempDir,
    acknowledged: Vec<(u64, Uuid)>,
}

impl World {
    async fn start(nats: Nats) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (admin, nats_url, monitor) = (nats.url(), nats.url_as("command-service"), nats.monitor_url());
        let state = temporary_folder().unwrap();
        let config = command_service::Config::parse_from([
            "service",
            "--namespace=test",
            "--nats-url",
            &nats_url,
            "--nats-monitor-url",
            &monitor,
            "--state-dir",
            state.path().to_str().unwrap(),
        ]);
        let shutdown = Shutdown::new();
        tokio::spawn(command_service::serve(listener, config, shutdown.clone()));
        let client = service_kit::nats::connect(&admin, "test").await.unwrap();
        let log = EventLog::new(client.clone(), "test");
        let mut world = Self { nats, client, log, url, shutdown, _state: state, acknowledged: Vec::new() };
        world.until_commands_flow().await;
        world
    }

    /// Registers an account. Gives the problem's code, if it is not accepted, after a look at its form.
    async fn register(&mut self) -> Result<(), String> {
        let id = Uuid::now_v7();
        let body = json!({"email": format!("{id}@example.org"), "username": id.simple().to_string()});
        let request = reqwest::Client::new().post(format!("{}/accounts/{id}/register", self.url)).json(&body);
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body: Value = answer.json().await.unwrap();
        if status == StatusCode::CREATED {
            self.acknowledged.push((body["position"].as_u64().unwrap(), id));
            return Ok(());
        }
        assert!(matches!(status.as_u16(), 503 | 504), "{body}");
        assert!(headers.contains_key("retry-after"), "{headers:?}");
        Err(body["code"].as_str().unwrap().to_owned())
    }

    async fn until_commands_flow(&mut self) {
        let mut problems = Vec::new();
        let waiting = async {
            while let Err(problem) = self.register().await {
                problems.push(problem);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "commands do not flow: {:?}", problems.last());
    }

    /// Sends commands until one is refused because the log has no room, and then some more, which nobody
    /// decides. What the first is told depends on what the server tells.
    async fn until_refused(&mut self, expected: &str) {
        let mut sent = 0;
        let first = loop {
            match self.register().await {
                Ok(()) => sent += 1,
                Err(problem) => break problem,
            }
            assert!(sent < COMMANDS_MAX, "the disk is never full");
        };
        assert_eq!(first, expected);
        // Each may wait for a writer for some seconds.
        for _ in 0..3 {
            let problem = self.register().await.expect_err("the disk is full");
            assert!(matches!(problem.as_str(), "log-unavailable" | "no-writer"), "{problem}");
        }
    }

    /// Whatever was acknowledged is in the log, where the answer said, and the log is well.
    async fn nothing_is_lost(&self) {
        let mut events = replay::Events::from_start(&self.log);
        let mut subjects = Vec::new();
        while let Some(event) = events.available().await.unwrap() {
            subjects.push(event.subject);
        }
        for (position, id) in &self.acknowledged {
            assert_eq!(subjects[*position as usize - 1], *id, "at position {position}");
        }
        let findings = replay::check(&self.log, |_| ()).await.unwrap();
        assert!(findings.is_clean(), "{findings:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn when_the_store_is_at_its_limit_commands_are_refused_until_there_is_room() {
    let folder = temporary_folder().unwrap();
    let config = ServerConfig::within(folder.path()).unwrap();
    let mut world = World::start(Nats::start_configured(config, LITTLE_ROOM).await.unwrap()).await;
    // Something else takes the room.
    let jetstream = async_nats::jetstream::new(world.client.clone());
    let stream = async_nats::jetstream::stream::Config {
        name: "BALLAST".into(),
        subjects: vec!["ballast".into()],
        ..Default::default()
    };
    jetstream.create_stream(stream).await.unwrap();
    for _ in 0..38 {
        let ack = jetstream.publish("ballast", vec![0; 100_000].into()).await.unwrap();
        ack.await.unwrap();
    }
    world.until_refused("log-unavailable").await;

    jetstream.delete_stream("BALLAST").await.unwrap();
    world.until_commands_flow().await;
    world.nothing_is_lost().await;
}

#[tokio::test]
async fn when_the_disk_is_full_commands_are_refused_until_there_is_room() {
    let Some(disk) = Disk::mount(16 << 20) else { return eprintln!("skipped") };
    let logs = temporary_folder().unwrap();
    let config =
        ServerConfig { log: logs.path().join("server.log"), ..ServerConfig::within(disk.path()).unwrap() };
    let mut world = World::start(Nats::start(config).await.unwrap()).await;
    disk.fill();
    world.until_refused("outcome-unknown").await;

    disk.free();
    // After a failed write, nats-server 2.15 stores nothing in the stream until it is started again.
    world.nats.restart().await.unwrap();
    world.until_commands_flow().await;
    world.nothing_is_lost().await;
}
