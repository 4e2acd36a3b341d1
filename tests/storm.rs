//! Three instances, clients that get into each other's way, and a storm that kills and stops whatever it meets.
//! What was answered in the end must be strictly serializable; see [`crate::history`].
//!
//! `HEADWATER_STORM_SEED=<seed of a run>` lets chance choose the same again; the others of [`Settings`] make the
//! storm longer: `HEADWATER_STORM_WRITER_KILLS=50 HEADWATER_STORM_NATS_KILLS=20 HEADWATER_STORM_PAUSE_SECONDS=60
//! cargo test --workspace --test system storm -- --nocapture`.

mod chaos;
mod client;
mod cluster;
pub mod random;
mod whole;

use std::{
    env,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use event_log::EventLog;
use stack::servers::temporary_folder;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::{
    harness::{Place, Servers},
    history::{self, Attempt},
    instance::Instance,
};
use chaos::{Chaos, Done};
use client::{Client, Sea};
use random::Random;

const INSTANCES: [&str; 3] = ["a", "b", "c"];
/// After the storm, every client has its last answer within this time.
const CALM_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Settings {
    pub seed: u64,
    pub clients: usize,
    pub writer_kills: usize,
    pub nats_kills: usize,
    pub restarts: usize,
    pub pause_seconds: u64,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default: u64| match env::var(format!("HEADWATER_STORM_{name}")) {
            Ok(text) => text.parse().unwrap(),
            Err(_) => default,
        };
        Self {
            seed: number("SEED", Uuid::now_v7().as_u64_pair().1),
            clients: number("CLIENTS", 12) as usize,
            writer_kills: number("WRITER_KILLS", 4) as usize,
            nats_kills: number("NATS_KILLS", 2) as usize,
            restarts: number("RESTARTS", 1) as usize,
            pause_seconds: number("PAUSE_SECONDS", 4),
        }
    }
}

/// A storm takes all that the machine has, and says for how long nobody was served: two at a time would be one of another
/// kind.
pub async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_leaves_a_strictly_serializable_history() {
    let _alone = alone().await;
    let settings = Settings::read();
    println!("{settings:?}");
    let started = Instant::now();
    let place = Place::with(Arc::new(Servers::start().await), "storm".into(), String::new());
    let log = place.log().await;
    let folder = temporary_folder().unwrap();
    let states = INSTANCES.map(|name| folder.path().join(name)).to_vec();
    let mut instances = Vec::new();
    for state in &states {
        instances.push(Instance::start(&place, state).await);
    }
    let sea = Arc::new(Sea::new(instances.iter().map(|instance| instance.url.clone()).collect()));
    let clients: Vec<_> = (1..=settings.clients as u64)
        .map(|client| tokio::spawn(Client::new(sea.clone(), Random::new(settings.seed, client)).run()))
        .collect();

    let mut random = Random::new(settings.seed, 0);
    let plan = chaos::plan(&settings, &mut random);
    let pause = Duration::from_secs(settings.pause_seconds);
    let mut chaos =
        Chaos { place, instances, states, sea: sea.clone(), random, pause, done: Done::default() };
    for blow in plan {
        chaos.strike(blow).await;
    }
    sea.is_over.store(true, Ordering::Relaxed);
    let mut attempts = Vec::new();
    for client in clients {
        attempts.extend(tokio::time::timeout(CALM_TIME_MAX, client).await.unwrap().unwrap());
    }
    let silence = sea.silence.lock().unwrap().longest;
    println!(
        "{:?} in {:?}; nothing was acknowledged for {silence:?} at the most",
        chaos.done,
        started.elapsed()
    );
    check(&settings, &attempts, &log, &chaos.done).await;
}

/// The history is right, and the storm was one.
async fn check(settings: &Settings, attempts: &[Attempt], log: &EventLog, done: &Done) {
    let findings = replay::check(log, |_| ()).await.unwrap();
    assert!(findings.is_clean(), "{findings:#?}");
    let terms = log.head().await.unwrap().term;
    let started = Instant::now();
    let checked = match history::check(attempts, &history::read(log).await) {
        Ok(checked) => checked,
        Err(violations) => panic!("seed {}: {violations:#?}", settings.seed),
    };
    println!("{} attempts, {terms} terms; {checked:#?} in {:?}", attempts.len(), started.elapsed());

    assert_eq!(done.writer_kills, settings.writer_kills);
    assert_eq!(done.nats_kills, settings.nats_kills);
    assert!(terms > settings.writer_kills as u64, "each kill of the writer ended a term");
    let explained = |code: &str| checked.explained.get(code).copied().unwrap_or_default();
    assert!(checked.effects > 200 && checked.acknowledged > 200 && checked.unanswered > 0, "{checked:?}");
    for (code, least) in [
        ("unchanged", 10),
        ("repeated", 10),
        ("key-reused", 1),
        ("revision-mismatch", 10),
        ("email-taken", 10),
        ("username-taken", 10),
        ("account-already-registered", 10),
        ("account-not-active", 10),
    ] {
        assert!(explained(code) >= least, "{code}: {checked:#?}");
    }
}
