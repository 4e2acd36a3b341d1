//! Three instances under contending clients, while writers and the NATS server are killed and paused at random.
//! Afterwards every answer must be what the log's order implies.
//!
//! The defaults are small. A large one:
//!
//! ```sh
//! HEADWATER_STORM_WRITER_KILLS=50 HEADWATER_STORM_NATS_KILLS=20 HEADWATER_STORM_PAUSE_SECONDS=60 \
//!     cargo test -p headwater-tests storm -- --nocapture
//! ```
//! `HEADWATER_STORM_SEED` repeats the choices of an earlier one, though not its timing.

mod client;

use std::{
    env, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use event_log::Envelope;
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use service_kit::Shutdown;
use stack::servers::temporary_folder;

use crate::{
    harness::{Place, Servers},
    history::{self, Answer, Attempt},
    instance::{Instance, writer},
};
use client::{Client, Shared};

const INSTANCES: usize = 3;
const CLIENTS: usize = 12;

/// A small generator of pseudo-random numbers (SplitMix64), so that a seed tells the choices.
pub struct Chance(u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    KillWriter,
    /// Kill the writer, and delete its state before it comes back.
    KillWriterWithState,
    StopWriter,
    PauseWriter(Duration),
    KillNats,
    /// Longer than an append may take, so that outcomes are unknown and frames arrive late.
    PauseNats(Duration),
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What will happen, in random order.
fn disturbances(chance: &mut Chance) -> Vec<Disturbance> {
    let writer_kills = setting("HEADWATER_STORM_WRITER_KILLS", 3);
    let nats_kills = setting("HEADWATER_STORM_NATS_KILLS", 1);
    let pause = Duration::from_secs(setting("HEADWATER_STORM_PAUSE_SECONDS", 7));
    let mut planned =
        vec![Disturbance::PauseWriter(pause), Disturbance::PauseNats(pause), Disturbance::StopWriter];
    planned.extend((0..writer_kills).map(|kill| match kill % 3 {
        0 => Disturbance::KillWriterWithState,
        _ => Disturbance::KillWriter,
    }));
    planned.extend((0..nats_kills).map(|_| Disturbance::KillNats));
    for index in (1..planned.len()).rev() {
        planned.swap(index, chance.below(index as u64 + 1) as usize);
    }
    planned
}

struct Cluster {
    place: Place,
    instances: Vec<Instance>,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let place = Place::new(Arc::new(Servers::start().await)).await;
        let folder = temporary_folder().unwrap();
        let mut instances = Vec::new();
        for number in 0..INSTANCES {
            instances.push(Instance::start(&place, &state(folder.path(), number)).await);
        }
        Self { place, instances, folder }
    }

    async fn disturb(&mut self, disturbance: Disturbance, chance: &mut Chance) {
        let writer = writer(&self.instances).await;
        let instance = &mut self.instances[writer];
        match disturbance {
            Disturbance::KillWriter => {
                instance.kill().await;
                instance.restart().await;
            }
            Disturbance::KillWriterWithState => {
                instance.kill().await;
                fs::remove_dir_all(state(self.folder.path(), writer)).unwrap();
                instance.restart().await;
            }
            Disturbance::StopWriter => instance.restart().await,
            Disturbance::PauseWriter(time) => {
                instance.pause();
                tokio::time::sleep(time).await;
                instance.resume();
            }
            Disturbance::KillNats => {
                let nats = &mut Arc::get_mut(&mut self.place.servers).unwrap().nats;
                nats.kill().await;
                tokio::time::sleep(Duration::from_millis(chance.below(800))).await;
                nats.restart().await.unwrap();
            }
            Disturbance::PauseNats(time) => {
                let nats = Pid::from_raw(self.place.servers.nats.pid() as i32).unwrap();
                kill_process(nats, Signal::STOP).unwrap();
                tokio::time::sleep(time).await;
                kill_process(nats, Signal::CONT).unwrap();
            }
        }
    }
}

fn state(folder: &Path, number: usize) -> PathBuf {
    folder.join(number.to_string())
}

#[tokio::test]
async fn every_answer_is_what_the_order_of_the_log_implies() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("HEADWATER_STORM_SEED", now.as_secs());
    println!("HEADWATER_STORM_SEED={seed}");
    let mut chance = Chance(seed);
    let mut cluster = Cluster::start().await;
    let urls = cluster.instances.iter().map(|instance| instance.url.clone()).collect();
    let shared = Arc::new(Shared::new(urls));
    let over = Shutdown::new();
    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|number| tokio::spawn(Client::new(shared.clone(), number, seed).run(over.clone())))
        .collect();

    for disturbance in disturbances(&mut chance) {
        tokio::time::sleep(Duration::from_millis(200 + chance.below(800))).await;
        let started = Instant::now();
        cluster.disturb(disturbance, &mut chance).await;
        println!("{disturbance:?}: {:.1?}", started.elapsed());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    over.cancel();
    for client in join_all(clients).await {
        client.unwrap();
    }

    let attempts = shared.attempts();
    let log = read(&cluster.place).await;
    let started = Instant::now();
    let violations = history::violations(&attempts, &log);
    println!("checked in {:.1?}", started.elapsed());
    let first = &violations[..violations.len().min(5)];
    assert!(violations.is_empty(), "{} violations, such as {first:#?}", violations.len());
    summary(&attempts, &log);
}

/// The whole log, which must keep its own rules.
async fn read(place: &Place) -> Vec<Envelope> {
    let log = place.log().await;
    let findings = replay::check(&log, |_| ()).await.unwrap();
    assert!(findings.is_clean(), "{findings:?}");
    let mut events = replay::Events::from_start(&log);
    let mut envelopes = Vec::new();
    while let Some(event) = events.available().await.unwrap() {
        envelopes.push(event);
    }
    envelopes
}

/// Says what the history has, which must be enough of everything to mean something.
fn summary(attempts: &[Attempt], log: &[Envelope]) {
    let count = |what: &str, at_least: usize, is_it: &dyn Fn(&Option<&Answer>) -> bool| {
        let count = attempts
            .iter()
            .filter(|attempt| is_it(&attempt.answered.as_ref().map(|(_, answer)| answer)))
            .count();
        println!("{count:>8} {what}");
        assert!(count >= at_least, "only {count} {what}: nothing is shown by that");
    };
    println!("{:>8} events\n{:>8} attempts", log.len(), attempts.len());
    count(
        "accepted, with events",
        300,
        &|answer| matches!(answer, Some(Answer::Accepted { events, .. }) if !events.is_empty()),
    );
    count(
        "accepted, no change",
        5,
        &|answer| matches!(answer, Some(Answer::Accepted { events, .. }) if events.is_empty()),
    );
    count("rejected", 100, &|answer| matches!(answer, Some(Answer::Rejected(_))));
    count("another revision", 20, &|answer| matches!(answer, Some(Answer::RevisionMismatch { .. })));
    count("key of another command", 5, &|answer| matches!(answer, Some(Answer::KeyReused)));
    count("certainly without effect", 0, &|answer| matches!(answer, Some(Answer::WithoutEffect)));
    count("without an answer", 1, &|answer| answer.is_none());
}
