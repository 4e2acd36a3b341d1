//! The same clients over three nodes of NATS: the log's one copy becomes three, then a node dies, and the writer, and
//! both.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::jetstream;
use event_log::EventLog;
use service_kit::nats;
use stack::servers::{NatsCluster, ServerConfig, temporary_folder};
use tokio::time::timeout;

use super::{
    CALM_TIME_MAX,
    client::{Client, Sea},
    random::Random,
};
use crate::{
    copies::{are_current, info},
    harness::until,
    history,
    instance::{Instance, writer},
};

const NAMESPACE: &str = "storm";
const CLIENTS: u64 = 8;
/// nats-server waits 4 to 9 s before it elects another leader of a stream; what was under way is looked for, and a
/// writer that gave up meanwhile opens a term.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Acknowledged between two blows.
const COMMANDS_BETWEEN: u64 = 50;

/// Three nodes, three command-services, and who commands them.
struct Site {
    nats: NatsCluster,
    instances: Vec<Instance>,
    sea: Arc<Sea>,
    log: EventLog,
}

impl Site {
    /// The node that leads the log.
    async fn leader(&self) -> usize {
        let mut leader = None;
        until("the log has a leader", async || {
            let cluster = info(&self.log).await.and_then(|info| info.cluster);
            leader = cluster.and_then(|cluster| cluster.leader);
            leader.is_some()
        })
        .await;
        let number = leader.unwrap().trim_start_matches("headwater-").parse::<usize>().unwrap();
        number - 1
    }

    /// Has the log, and the lease of the one that writes, on three nodes instead of one.
    async fn raise(&self) {
        let jetstream = jetstream::new(self.log.client().clone());
        for name in ["storm_LOG", "KV_storm_WRITER"] {
            let mut config = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
            assert_eq!(config.num_replicas, 1);
            config.num_replicas = 3;
            jetstream.update_stream(config).await.unwrap();
        }
        self.until_every_copy_is_current().await;
    }

    async fn until_every_copy_is_current(&self) {
        until("every copy of the log is current", async || are_current(&self.log).await).await;
    }

    async fn until_commands_flow(&self) {
        let acknowledged = || self.sea.acknowledged.load(Ordering::Relaxed);
        let enough = acknowledged() + COMMANDS_BETWEEN;
        until("commands flow", async || acknowledged() >= enough).await;
    }

    async fn strike(&mut self, kills_node: bool, kills_writer: bool) {
        self.until_every_copy_is_current().await;
        self.until_commands_flow().await;
        let (leader, writer) = (self.leader().await, writer(&self.instances).await);
        self.sea.silence.lock().unwrap().longest = Duration::ZERO;
        if kills_node {
            self.nats.nodes[leader].kill().await;
        }
        if kills_writer {
            self.instances[writer].kill().await;
        }
        // Without the node, and without the instance.
        self.until_commands_flow().await;
        let silence = self.sea.silence.lock().unwrap().longest;
        println!("node killed: {kills_node}, writer killed: {kills_writer}: silent for {silence:?}");
        assert!(silence < SILENCE_MAX, "{silence:?}");
        if kills_writer {
            self.instances[writer].restart().await;
        }
        if kills_node {
            self.nats.nodes[leader].restart().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_a_node_dies_and_when_the_writer_does() {
    let _alone = super::alone().await;
    let folder = temporary_folder().unwrap();
    let config = |node: usize| ServerConfig::within(folder.path().join(format!("nats-{node}"))).unwrap();
    let nats = NatsCluster::start_for((1..=3).map(config).collect(), NAMESPACE).await.unwrap();
    let mut instances = Vec::new();
    for name in ["a", "b", "c"] {
        instances.push(Instance::over(&nats, NAMESPACE, &folder.path().join(name)).await);
    }
    let sea = Arc::new(Sea::new(instances.iter().map(|instance| instance.url.clone()).collect()));
    let seed = uuid::Uuid::now_v7().as_u64_pair().1;
    println!("seed {seed}");
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|client| tokio::spawn(Client::new(sea.clone(), Random::new(seed, client)).run()))
        .collect();
    let log = EventLog::new(nats::connect(&nats.url(), "test").await.unwrap(), NAMESPACE);
    let mut site = Site { nats, instances, sea: sea.clone(), log };

    site.until_commands_flow().await;
    site.raise().await;
    println!("one copy became three: silent for {:?}", sea.silence.lock().unwrap().longest);
    for (kills_node, kills_writer) in [(true, false), (false, true), (true, true)] {
        site.strike(kills_node, kills_writer).await;
    }
    sea.is_over.store(true, Ordering::Relaxed);
    let mut attempts = Vec::new();
    for client in clients {
        attempts.extend(timeout(CALM_TIME_MAX, client).await.unwrap().unwrap());
    }
    site.until_every_copy_is_current().await;
    let findings = replay::check(&site.log, |_| ()).await.unwrap();
    assert!(findings.is_clean(), "{findings:#?}");
    let checked = history::check(&attempts, &history::read(&site.log).await);
    let checked = checked.unwrap_or_else(|violations| panic!("seed {seed}: {violations:#?}"));
    println!("{} attempts; {checked:#?}", attempts.len());
    assert!(checked.acknowledged > 150, "{checked:?}");
}
