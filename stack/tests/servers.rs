//! The real servers: each comes back on the same port after SIGKILL, and nothing is left when it is dropped.

use std::path::Path;

use stack::servers::{self, Nats, NatsCluster, Postgres, ServerConfig};

#[tokio::test]
async fn nats_comes_back_on_the_same_port_after_sigkill() {
    let folder = servers::temporary_folder().unwrap();
    let mut nats = Nats::start(ServerConfig::within(folder.path().join("a folder")).unwrap()).await.unwrap();
    let (url, pid) = (nats.url(), nats.pid());
    nats.kill().await;
    nats.restart().await.unwrap();
    assert_eq!(nats.url(), url);
    assert_ne!(nats.pid(), pid);
    let pid = nats.pid();
    drop(nats);
    assert!(!is_alive(pid));
    assert!(folder.path().join("a folder/jetstream").exists());
}

#[tokio::test]
async fn streams_from_before_there_were_accounts_are_found_again() {
    const BEFORE: &str = "listen: $NATS_LISTEN\njetstream { store_dir: $NATS_STORE_DIR }\n";
    let folder = servers::temporary_folder().unwrap();
    let config = || ServerConfig::within(folder.path()).unwrap();
    drop(Nats::start_configured(config(), BEFORE).await.unwrap());
    // What a stream is kept in, made by hand: this crate speaks no more of NATS than its greeting.
    std::fs::create_dir_all(folder.path().join("jetstream/$G/streams/LOG")).unwrap();
    drop(Nats::start(config()).await.unwrap());
    assert!(folder.path().join("jetstream/HEADWATER/streams/LOG").exists());
}

#[tokio::test]
async fn a_cluster_takes_a_killed_node_back() {
    let folder = servers::temporary_folder().unwrap();
    let config = |node| ServerConfig::within(folder.path().join(format!("node {node}"))).unwrap();
    let mut cluster = NatsCluster::start((1..=3).map(config).collect()).await.unwrap();
    assert_eq!(cluster.url().split(',').count(), 3);
    cluster.nodes[0].kill().await;
    // It is ready when the cluster's leader answers it.
    cluster.nodes[0].restart().await.unwrap();
    let pids: Vec<u32> = cluster.nodes.iter().map(Nats::pid).collect();
    drop(cluster);
    assert!(!pids.into_iter().any(is_alive));
}

#[tokio::test]
async fn postgres_comes_back_on_the_same_port_after_sigkill() {
    let folder = servers::temporary_folder().unwrap();
    let config = || ServerConfig::within(folder.path()).unwrap();
    let mut postgres = Postgres::start(config(), &[("max_connections", "20")]).await.unwrap();
    let (url, pid) = (postgres.url(), postgres.pid());
    postgres.kill().await;
    postgres.restart().await.unwrap();
    assert_eq!(postgres.url(), url);
    assert_ne!(postgres.pid(), pid);
    drop(postgres);

    // The data and the password are found again by the next one.
    let again = Postgres::start(config(), &[]).await.unwrap();
    assert_eq!(password(&again.url()), password(&url));
    let pid = again.pid();
    drop(again);
    assert!(!is_alive(pid));
}

fn password(url: &str) -> &str {
    url.split(['@', ':']).nth(2).expect("the URL has a password")
}

/// Whether a process has this pid; where that cannot be looked up, believe that it has ended.
fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
