//! The great storm: the whole system behind its edge, clients of every kind, whatever can go wrong to a machine, one or
//! two things at a time, and a referee who knows every request and every answer.
//!
//! `STORM_MINUTES` says how long it lasts, `HEADWATER_STORM_SEED=<seed of a run>` lets chance choose the same again:
//! `HEADWATER_STORM_FAULTS=nats-server,disk full` only those that are called so:
//! `STORM_MINUTES=60 cargo test --workspace --test system storm::whole -- --nocapture`.

mod chaos;
mod clock;
mod faults;
mod members;
mod readers;
mod referee;
mod world;

use std::{
    env,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use super::{
    CALM_TIME_MAX,
    client::{Client, Sea},
    random::Random,
};
use crate::history::{Attempt, recorder::Recorder};
use chaos::{Chaos, Tally};
use readers::{Library, Reader};
use referee::Referee;
use world::World;

const MINUTES_DEFAULT: f64 = 0.5;
/// The storm rests a few times, and no more seldom than after this time.
const RESTS: f64 = 3.0;
const BETWEEN_RESTS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(180));
const COMMANDERS: u64 = 8;
const READERS: u64 = 6;
const COLD_PERCENT: u64 = 25;

struct Settings {
    seed: u64,
    duration: Duration,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str| env::var(name).ok().map(|text| text.parse::<f64>().unwrap());
        let seed = env::var("HEADWATER_STORM_SEED").ok().map(|text| text.parse().unwrap());
        Self {
            seed: seed.unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1),
            duration: Duration::from_secs_f64(60.0 * number("STORM_MINUTES").unwrap_or(MINUTES_DEFAULT)),
        }
    }
}

/// All clients. They rest when the storm does.
struct Crowd {
    library: Arc<Library>,
    commanders: Vec<Client>,
    readers: Vec<Reader>,
    stranger: Random,
}

/// Clients that are under way.
struct Busy {
    commanders: Vec<JoinHandle<(Client, Vec<Attempt>)>>,
    readers: Vec<JoinHandle<Reader>>,
    stranger: JoinHandle<Random>,
}

impl Crowd {
    fn new(library: Arc<Library>, seed: u64) -> Self {
        let sea = &library.sea;
        let commander = |client| Client::new(sea.clone(), Random::new(seed, 1_000 + client));
        let reader = |client| Reader::new(library.clone(), client, Random::new(seed, 2_000 + client));
        Self {
            commanders: (0..COMMANDERS).map(commander).collect(),
            readers: (0..READERS).map(reader).collect(),
            stranger: Random::new(seed, 3_000),
            library: library.clone(),
        }
    }

    fn begin(&mut self) -> Busy {
        self.library.sea.is_over.store(false, Ordering::Relaxed);
        let commanders = self.commanders.drain(..).map(|mut client| {
            tokio::spawn(async move {
                let attempts = client.go_on().await;
                (client, attempts)
            })
        });
        let readers = self.readers.drain(..).map(|mut reader| {
            tokio::spawn(async move {
                reader.go_on().await;
                reader
            })
        });
        let (library, mut random) = (self.library.clone(), self.stranger.clone());
        let stranger = tokio::spawn(async move {
            readers::intrude(&library, &mut random).await;
            random
        });
        Busy { commanders: commanders.collect(), readers: readers.collect(), stranger }
    }

    /// Waits until all have their last answer, and gives what was commanded.
    async fn rest(&mut self, busy: Busy) -> Result<Vec<Attempt>, String> {
        self.library.sea.is_over.store(true, Ordering::Relaxed);
        let mut attempts = Vec::new();
        let resting = async {
            for commander in busy.commanders {
                let (client, sent) = commander.await.map_err(|error| format!("a commander: {error}"))?;
                self.commanders.push(client);
                attempts.extend(sent);
            }
            for reader in busy.readers {
                self.readers.push(reader.await.map_err(|error| format!("a reader: {error}"))?);
            }
            self.stranger = busy.stranger.await.map_err(|error| format!("the stranger: {error}"))?;
            Ok::<(), String>(())
        };
        timeout(CALM_TIME_MAX, resting).await.map_err(|_| "some have no answer".to_owned())??;
        Ok(attempts)
    }
}

impl Busy {
    fn has_given_up(&self) -> bool {
        self.commanders.iter().any(JoinHandle::is_finished)
            || self.readers.iter().any(JoinHandle::is_finished)
    }
}

/// Rages until the time is over, or until something is wrong.
async fn rage(
    chaos: &mut Chaos,
    referee: &mut Referee,
    crowd: &mut Crowd,
    settings: &Settings,
) -> Result<(), String> {
    let started = Instant::now();
    let between = settings.duration.div_f64(RESTS).clamp(BETWEEN_RESTS.0, BETWEEN_RESTS.1);
    while started.elapsed() < settings.duration {
        let busy = crowd.begin();
        let rest = Instant::now() + between;
        while Instant::now() < rest {
            chaos.round(started).await?;
            let complaints = chaos.library.complaints.lock().unwrap().clone();
            if !complaints.is_empty() {
                return Err(format!("at first sight: {}", complaints.join("\n")));
            }
            if busy.has_given_up() {
                break;
            }
        }
        let attempts = crowd.rest(busy).await?;
        let resting = Instant::now();
        referee.examine(&chaos.world, &chaos.library, attempts).await?;
        println!(
            "{:7.1} s  rested for {:.1} s: all is well",
            started.elapsed().as_secs_f64(),
            resting.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_system_keeps_its_promises_in_a_storm() {
    let _alone = super::alone().await;
    let settings = Settings::read();
    println!("seed {}, {:.1} minutes", settings.seed, settings.duration.as_secs_f64() / 60.0);
    let world = World::start().await;
    let http = readers::http(&world.token);
    let commands = vec![format!("{}/commands", world.url)];
    let sea = Arc::new(Sea::with(Recorder::through_edge(http), commands, COLD_PERCENT));
    let library = Arc::new(Library::new(&world.url, &world.token, &world.token_of_a_stranger, sea));
    let mut referee = Referee::new(&world.log);
    let mut crowd = Crowd::new(library.clone(), settings.seed);
    let mut chaos = Chaos::new(world, library.clone(), Random::new(settings.seed, 0));

    let watching = tokio::spawn(referee::watch(chaos.world.log.clone(), library.clone()));
    let started = Instant::now();
    let raged = rage(&mut chaos, &mut referee, &mut crowd, &settings).await;
    watching.abort();
    println!("\n{}\n{}", referee.sum, library.summary());
    tell(&chaos);
    if let Err(what) = raged {
        if env::var_os("HEADWATER_STORM_QUIET").is_none() {
            println!("{}", chaos.world.said());
        }
        panic!("seed {}, after {:.1} s: {what}", settings.seed, started.elapsed().as_secs_f64());
    }
    println!("acknowledged and lost 0, doubled 0, stale 0");
    let checked = &referee.sum.checked;
    assert!(checked.acknowledged > 100 && referee.sum.answers > 200 && referee.sum.emails > 10);
}

fn tell(chaos: &Chaos) {
    println!("{:46} {:>6} {:>6} {:>18} {:>16}", "", "dealt", "alone", "no command for, s", "no query for, s");
    for (fault, dealt) in &chaos.dealt {
        let Tally { count, commands_silent, queries_silent } =
            chaos.alone.get(fault).cloned().unwrap_or_default();
        let (commands, queries) = (commands_silent.as_secs_f64(), queries_silent.as_secs_f64());
        println!("{fault:46} {dealt:6} {count:6} {commands:18.1} {queries:16.1}");
    }
    let Tally { count, commands_silent, queries_silent } = &chaos.together;
    let (commands, queries) = (commands_silent.as_secs_f64(), queries_silent.as_secs_f64());
    println!("{:46} {count:6} {:6} {commands:18.1} {queries:16.1}", "two at once", "");
}
