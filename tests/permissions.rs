//! What each user of NATS may do, and what none but the right one may.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, Subject};
use service_kit::nats;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    harness::{Place, Servers, World, until},
    smtp::SmtpServer,
    tasks::Office,
};

const NAMESPACE: &str = "shop";
const PATIENCE: Duration = Duration::from_secs(10);
const SERVICES: [&str; 5] = ["command-service", "projector", "query-service", "task-worker", "replay"];

/// A user, and what the server refused it.
struct User {
    name: &'static str,
    client: Client,
    refusals: mpsc::UnboundedReceiver<String>,
}

impl User {
    async fn of(servers: &Servers, name: &'static str) -> Self {
        let url = servers.nats.url_as(name);
        let (user, server) = url.trim_start_matches("nats://").split_once('@').unwrap();
        let (user, password) = user.split_once(':').unwrap();
        let (said, refusals) = mpsc::unbounded_channel();
        let options = ConnectOptions::new()
            .user_and_password(user.to_owned(), password.to_owned())
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    let _ = said.send(error.to_string());
                }
                async {}
            });
        Self { name, client: options.connect(server).await.unwrap(), refusals }
    }

    async fn publishes(&self, subject: impl Into<Subject>, payload: &str) {
        self.client.publish(subject.into(), payload.to_owned().into()).await.unwrap();
    }

    async fn is_refused(&mut self, what: &str) {
        let refusal = timeout(PATIENCE, self.refusals.recv()).await;
        let refusal = refusal.unwrap_or_else(|_| panic!("{} may: {what}", self.name)).unwrap();
        assert!(refusal.contains("Permissions Violation") && refusal.contains(what), "{what}: {refusal}");
    }

    async fn may_not_publish(&mut self, subject: &str) {
        self.publishes(subject.to_owned(), "{}").await;
        self.is_refused(&format!("Publish to \"{subject}\"")).await;
    }

    async fn may_not_subscribe(&mut self, subject: &str) {
        let _refused = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.is_refused(&format!("Subscription to \"{subject}\"")).await;
    }
}

/// A system in which an account was registered and welcomed.
async fn office() -> (Arc<Servers>, Office) {
    let servers = Arc::new(Servers::start_for(NAMESPACE).await);
    let place = Place::named(servers.clone(), NAMESPACE.to_owned()).await;
    let office = Office::with(World::at(place).await, SmtpServer::start().await).await;
    office.world.registered("ada").await;
    office.until_mails(1).await;
    office.until_idle().await;
    (servers, office)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_does_its_work_and_nothing_else() {
    let (servers, office) = office().await;
    let world = &office.world;
    // The cache is kept true by signals: it is served from only while they are heard.
    until("an answer comes from memory", async || {
        world.get("/accounts").send().await.header("cache-status").contains("hit")
    })
    .await;
    let before = world.place.log().await.head().await.unwrap();

    for name in SERVICES {
        let mut user = User::of(&servers, name).await;
        for stream in ["shop_LOG", "shop_TASKS", "shop_DEAD_LETTERS", "KV_shop_WRITER", "KV_shop_PLANNER"] {
            for verb in ["DELETE", "UPDATE", "MSG.DELETE", "SNAPSHOT", "RESTORE"] {
                user.may_not_publish(&format!("$JS.API.STREAM.{verb}.{stream}")).await;
            }
        }
        user.may_not_publish("$JS.API.STREAM.PURGE.shop_LOG").await;
        user.may_not_publish("$JS.API.STREAM.CREATE.another").await;
        user.may_not_publish("$JS.API.CONSUMER.CREATE.shop_LOG.spy").await;
        // What other users are answered, and what is answered to them.
        user.may_not_subscribe("_INBOX.>").await;
        user.may_not_subscribe(">").await;
        user.may_not_publish("_INBOX.forged").await;
        let may_append = name == "command-service";
        if !may_append {
            user.may_not_publish("shop.log.0").await;
            user.may_not_publish("$KV.shop_WRITER.holder").await;
            user.may_not_publish("shop.commands.instance").await;
            user.may_not_subscribe("shop.commands.*").await;
        }
        if name != "projector" {
            user.may_not_publish("shop.signals.accounts").await;
        }
        if name != "task-worker" {
            user.may_not_publish("$KV.shop_PLANNER.holder").await;
            user.may_not_publish("shop.tasks.ready.welcome-email.new.forged").await;
            user.may_not_publish("shop.dead.welcome-email.forged").await;
            user.may_not_publish("$JS.API.CONSUMER.MSG.NEXT.shop_TASKS.welcome-email").await;
            user.may_not_publish("$JS.API.STREAM.PURGE.shop_TASKS").await;
        }
        if name == "query-service" {
            user.may_not_publish("$JS.API.DIRECT.GET.shop_LOG").await;
            user.may_not_publish("$JS.API.STREAM.INFO.shop_LOG").await;
            user.may_not_subscribe("shop.appended.0").await;
        }
    }
    assert_eq!(world.place.log().await.head().await.unwrap(), before);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_the_log_cannot_have_the_server_write_to_it() {
    let (servers, office) = office().await;
    let log = office.world.place.log().await;
    let before = log.head().await.unwrap();
    for name in ["projector", "task-worker", "replay"] {
        let user = User::of(&servers, name).await;
        // JetStream puts its answer where it is told to. In one account for all, it would be in the log.
        for target in ["shop.log.0", "$KV.shop_WRITER.holder"] {
            for ask in ["DIRECT.GET", "STREAM.MSG.GET", "STREAM.INFO"] {
                let ask = format!("$JS.API.{ask}.shop_LOG");
                user.client.publish_with_reply(ask, target, r#"{"seq":1}"#.into()).await.unwrap();
            }
        }
        // What was asked first has been answered by the time that this is.
        let answer = user.client.request("$JS.API.STREAM.INFO.shop_LOG", "".into()).await.unwrap();
        assert!(
            String::from_utf8_lossy(&answer.payload).contains("shop.log.0"),
            "{name} may not read the log"
        );
    }
    assert_eq!(log.last_sequence().await.unwrap(), before.sequence);
    office.world.verify().await;
}

#[tokio::test]
async fn a_wrong_password_is_said_without_it() {
    let servers = Servers::shared().await;
    let url = servers.nats.url_as("replay");
    let right = url.split([':', '@']).nth(2).unwrap();
    let wrong = url.replace(right, "not-the-secret");
    let error = nats::connect_now(&wrong, "replay").await.unwrap_err();
    let said = format!("{error} {error:?}");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("authorization violation"), "{said}");
    assert!(!said.contains("not-the-secret"), "{said}");
    let stranger = nats::connect_now(&url.replace(&format!("replay:{right}@"), ""), "replay").await;
    assert!(stranger.is_err(), "a stranger was let in");
}

#[tokio::test]
async fn a_password_may_come_from_a_file() {
    let servers = Servers::shared().await;
    let url = servers.nats.url_as("replay");
    let password = url.split([':', '@']).nth(2).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{password}\n")).unwrap();
    let args = |url: &str| nats::NatsArgs {
        nats_url: url.to_owned(),
        nats_password_file: Some(file.path().to_owned()),
        nats_ca_file: None,
    };
    let named = url.replace(&format!(":{password}"), "");
    nats::connect_now(args(&named), "replay").await.unwrap();
    let nobody = url.replace(&format!("replay:{password}@"), "");
    let error = nats::connect_now(args(&nobody), "replay").await.unwrap_err();
    assert!(error.to_string().contains("nats://projector@host"), "{error}");
    assert!(!format!("{:?}", args(&url)).contains(password));
}
