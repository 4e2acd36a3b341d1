//! A region whose query-services hear of changes through a leaf node of their own.

use std::{sync::Arc, time::Duration};

use async_nats::Client;
use futures::StreamExt;
use serde_json::json;
use service_kit::nats::connect_now;
use stack::servers::{Nats, ServerConfig, temporary_folder};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use crate::harness::{Place, Servers, World, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A system whose query-service is in a region.
struct Region {
    world: World,
    leaf: Nats,
    _folder: TempDir,
}

impl Region {
    async fn start() -> Self {
        let place = Place::new(Arc::new(Servers::start_hub().await)).await;
        let folder = temporary_folder().unwrap();
        let config = ServerConfig::within(folder.path()).unwrap();
        let leaf = place.servers.nats.leaf(config).await.unwrap();
        let url = leaf.url_as("query-service");
        let queries = place.query_service_with(&url, &["--region", "overseas"]).await;
        let world = World::with(place, queries).await;
        Self { world, leaf, _folder: folder }
    }

    fn hub(&mut self) -> &mut Nats {
        &mut Arc::get_mut(&mut self.world.place.servers).unwrap().nats
    }

    /// The account's name as a client of the region sees it, and whether it came from memory.
    async fn sees(&self, account: Uuid, least: u64) -> (String, bool) {
        let path = format!("/accounts/{account}?fields=username");
        let answer =
            self.world.get(&path).header("Min-Position", least).header("Prefer", "wait=10").send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let from_memory = answer.header("cache-status").contains("hit");
        (answer.body["username"].as_str().unwrap().to_owned(), from_memory)
    }

    /// Gives the account another name, and the position of that.
    async fn renames(&self, account: Uuid, name: &str) -> u64 {
        let path = format!("/accounts/{account}/change-username");
        let mut position = 0;
        until("a command is taken", async || {
            let answer = self.world.post(&path).key(name).json(&json!({"username": name})).send().await;
            position = answer.body["position"].as_u64().unwrap_or_default();
            answer.status == 200
        })
        .await;
        position
    }

    /// Waits until the region hears signals: only then are answers given from memory.
    async fn hears(&self, account: Uuid) {
        until("an answer comes from memory", async || self.sees(account, 0).await.1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_hears_of_changes_and_notices_when_it_does_not() {
    let mut region = Region::start().await;
    let ada = region.world.registered("ada").await;
    region.hears(ada).await;
    let position = region.renames(ada, "ada-2").await;
    assert_eq!(region.sees(ada, position).await.0, "ada-2");
    region.hears(ada).await;

    // Cut off from its own node: what is in memory is not believed any more, and what is newer is found.
    region.leaf.kill().await;
    let position = region.renames(ada, "ada-3").await;
    assert_eq!(region.sees(ada, position).await.0, "ada-3");
    until("memory is not believed", async || !region.sees(ada, 0).await.1).await;
    let unheard = region.renames(ada, "ada-4").await;
    region.leaf.restart().await.unwrap();
    region.hears(ada).await;
    assert_eq!(region.sees(ada, 0).await.0, "ada-4", "at {unheard}");

    // The centre goes away under the leaf node, whose connection to the query-service holds.
    region.hub().kill().await;
    until("memory is not believed", async || !region.sees(ada, 0).await.1).await;
    region.hub().restart().await.unwrap();
    let position = region.renames(ada, "ada-5").await;
    region.hears(ada).await;
    assert_eq!(region.sees(ada, position).await, ("ada-5".to_owned(), true));

    // Its load is heard in the centre.
    let admin = region.world.place.nats().await;
    let subject = format!("{}.load.overseas.query-service", region.world.place.namespace);
    let mut load = admin.subscribe(subject).await.unwrap();
    timeout(PATIENCE, load.next()).await.unwrap().unwrap();
    region.world.verify().await;
}

/// A node whose region gives its users every right: what it may do in the centre is the centre's to say.
const LAWLESS: &str = r#"
listen: $NATS_LISTEN
accounts { VIEWS { users: [ { user: query-service, password: $NATS_PASSWORD_QUERY_SERVICE } ] } }
leafnodes {
  remotes: [ { urls: $NATS_HUB_URLS, account: VIEWS, tls { ca_file: $NATS_TLS_AUTHORITY } } ]
}
"#;

#[tokio::test]
async fn a_region_cannot_signal_nor_reach_the_log() {
    let folder = temporary_folder().unwrap();
    let config = |name: &str| ServerConfig::within(folder.path().join(name)).unwrap();
    let hub = Nats::start_hub(config("hub")).await.unwrap();
    let leaf = hub.leaf_configured(config("leaf"), LAWLESS).await.unwrap();
    let admin = connect_now(&hub.url(), "admin").await.unwrap();
    let lawless: Client = connect_now(&leaf.url_as("query-service"), "lawless").await.unwrap();

    let mut load = admin.subscribe("shop.load.overseas.query-service").await.unwrap();
    let mut others = admin.subscribe("shop.signals.>").await.unwrap();
    let mut appended = admin.subscribe("shop.log.>").await.unwrap();
    admin.flush().await.unwrap();
    // What it may say arrives, once the nodes have found each other; whatever else it said was sent before.
    let heard = async {
        loop {
            for subject in ["shop.signals.accounts", "shop.log.0", "shop.load.overseas.query-service"] {
                lawless.publish(subject, "{}".into()).await.unwrap();
            }
            if timeout(Duration::from_millis(200), load.next()).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.unwrap();
    lawless.publish("shop.signals.accounts", "{}".into()).await.unwrap();
    lawless.publish("shop.load.overseas.query-service", "{}".into()).await.unwrap();
    timeout(PATIENCE, load.next()).await.unwrap().unwrap();
    for forged in [&mut others, &mut appended] {
        assert!(timeout(Duration::from_millis(100), forged.next()).await.is_err(), "the region was believed");
    }
    // JetStream does not answer it.
    let ask = lawless.request("$JS.API.STREAM.NAMES", "".into());
    let answer = timeout(Duration::from_secs(2), ask).await;
    assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
}
