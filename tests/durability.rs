//! What an acknowledgement survives is learnt from the server, and a weaker server than asked for is refused.

use std::{
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use event_log::{Durability, DurabilityError, EventLog, Head, Profile};
use stack::{
    process::{Process, Signal},
    servers::{Nats, ServerConfig, temporary_folder},
    services,
};
use tempfile::TempDir;

use crate::harness::{programs, until};

/// As the repository's, but the disk is synced now and then.
const SYNCS_NOW_AND_THEN: &str = "
    listen: $NATS_LISTEN
    http: $NATS_MONITOR_LISTEN
    jetstream { store_dir: $NATS_STORE_DIR }
";

/// A service ends sooner than this, if it ends.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    nats: Nats,
    log: EventLog,
    folder: TempDir,
}

impl Server {
    async fn that_syncs_always() -> Self {
        let folder = temporary_folder().unwrap();
        let nats = Nats::start(ServerConfig::within(folder.path()).unwrap()).await.unwrap();
        Self::of(nats, folder).await
    }

    async fn that_syncs_now_and_then() -> Self {
        let folder = temporary_folder().unwrap();
        let config = ServerConfig::within(folder.path()).unwrap();
        Self::of(Nats::start_configured(config, SYNCS_NOW_AND_THEN).await.unwrap(), folder).await
    }

    async fn of(nats: Nats, folder: TempDir) -> Self {
        let client = service_kit::nats::connect(&nats.url(), "test").await.unwrap();
        Self { nats, log: EventLog::new(client, "test"), folder }
    }

    async fn check(&self, profile: Profile, url: Option<&str>) -> Result<Durability, DurabilityError> {
        self.log.check_durability(profile, url).await
    }

    /// A command-service as its own process, and what it has said so far.
    async fn command_service(&self, settings: &[(&str, &str)]) -> (Process, impl Fn() -> String + use<>) {
        let path = self.folder.path().join("command-service.log");
        let output = File::create(&path).unwrap();
        let mut command = Command::new(programs().await.join(services::COMMAND_SERVICE));
        command.env("HEADWATER_LISTEN", "127.0.0.1:0").env("HEADWATER_NAMESPACE", "test");
        command.env("NATS_URL", self.nats.url_as("command-service")).envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let process = Process::spawn(command, Signal::TERM).unwrap();
        (process, move || std::fs::read_to_string(&path).unwrap())
    }
}

#[tokio::test]
async fn a_server_that_syncs_always_is_durable() {
    let server = Server::that_syncs_always().await;
    let found = server.check(Profile::Durable, Some(&server.nats.monitor_url())).await.unwrap();
    assert_eq!(found, Durability::SyncAlways);
}

#[tokio::test]
async fn a_server_that_syncs_now_and_then_is_refused_unless_that_is_asked_for() {
    let server = Server::that_syncs_now_and_then().await;
    let url = server.nats.monitor_url();
    for profile in [Profile::Durable, Profile::Assumed] {
        let error = server.check(profile, Some(&url)).await.unwrap_err().to_string();
        assert!(error.contains("every 120s") && error.contains("sync_interval: always"), "{error}");
    }
    let found = server.check(Profile::Relaxed, Some(&url)).await.unwrap();
    assert!(matches!(found, Durability::SyncEvery(_)), "{found:?}");
}

#[tokio::test]
async fn what_cannot_be_learnt_is_said_with_the_reason() {
    let server = Server::that_syncs_now_and_then().await;
    let other = Server::that_syncs_always().await;
    let (nowhere, others) = ("http://127.0.0.1:1".to_owned(), other.nats.monitor_url());
    for (url, reason) in
        [(None, "no URL"), (Some(&nowhere), "does not answer"), (Some(&others), "another server")]
    {
        let found = server.check(Profile::Durable, url.map(String::as_str)).await.unwrap();
        assert!(matches!(&found, Durability::Unknown(why) if why.contains(reason)), "{found:?}");
    }
    // Of several servers, the log's own is the one that counts.
    let both = format!("{others}, {}", server.nats.monitor_url());
    assert!(server.check(Profile::Durable, Some(&both)).await.is_err());
}

#[tokio::test]
async fn a_command_service_does_not_start_on_a_weaker_server_and_says_what_to_do() {
    let server = Server::that_syncs_now_and_then().await;
    let (service, output) = server.command_service(&[("NATS_MONITOR_URL", &server.nats.monitor_url())]).await;
    let status = tokio::time::timeout(PATIENCE, service.exited()).await.expect("it serves all the same");
    assert!(!status.success());
    let said = output();
    assert!(
        said.contains("weaker than the profile") && said.contains("HEADWATER_DURABILITY=relaxed"),
        "{said}"
    );
    assert_eq!(server.log.head().await.unwrap(), Head::default(), "it has opened a term");
}

#[tokio::test]
async fn a_command_service_says_how_durable_its_answers_are() {
    let durable = Server::that_syncs_always().await;
    let weak = Server::that_syncs_now_and_then().await;
    let url = |server: &Server| server.nats.monitor_url();
    for (server, settings, said) in [
        (
            &durable,
            vec![("NATS_MONITOR_URL", url(&durable))],
            "durability: durable (sync always on one node)",
        ),
        (&weak, vec![], "durability: NOT CHECKED"),
        (
            &weak,
            vec![("HEADWATER_DURABILITY", "assumed".to_owned())],
            "durability: assumed (one replica, sync unknown",
        ),
        (
            &weak,
            vec![("HEADWATER_DURABILITY", "relaxed".to_owned()), ("NATS_MONITOR_URL", url(&weak))],
            "durability: relaxed (one replica that is synced every 120s)",
        ),
    ] {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (service, output) = server.command_service(&settings).await;
        until(said, async || {
            assert_eq!(service.exit_status(), None, "{}", output());
            output().contains(said)
        })
        .await;
        service.signal(Signal::TERM);
        assert!(service.exited().await.success(), "{}", output());
    }
}
