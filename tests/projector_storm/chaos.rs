//! What goes wrong while the projectors fold, one thing after the other, in an order that chance decides.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{
    Settings,
    load::Load,
    projectors::{Projectors, in_a_transaction, positions, until_folded},
    signals::{self, Recorder},
};
use crate::{
    harness::{Place, Servers, verify},
    instance::Instance,
    storm::random::Random,
};

/// Each blow falls so long after the load has gone on, at the most.
const CALM_MS_MAX: u64 = 100;
/// So many of a hundred blows wait for a transaction, and fall so soon after it was seen.
const MIDST_PERCENT: u64 = 70;
const MIDST_MS_MAX: u64 = 4;
/// A server that was killed stays dead up to so long.
const DEATH_MS_MAX: u64 = 1_000;

/// However often they are killed, no event waits longer than this, while servers are dead included.
const DELAY_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the projector that folds one of the views.
    Projector,
    /// SIGKILL to all of them.
    Both,
    /// SIGKILL to Postgres, while the projectors run.
    Postgres,
    /// SIGKILL to the NATS server.
    Nats,
}

/// What was done, and what was seen.
#[derive(Debug, Default)]
pub struct Done {
    pub frames: usize,
    /// How often a transaction was under way when the blow fell.
    pub in_a_transaction: usize,
    pub signals: usize,
    pub takeovers: usize,
    pub steps_back: Vec<String>,
    /// From when a frame was appended until it was heard that a view holds it.
    pub longest_delay: Duration,
    /// From when a server that was killed served again until every view was folded up to the end of the log.
    pub longest_recovery: Duration,
    pub took: Duration,
}

pub struct Storm {
    place: Place,
    projectors: Projectors,
    load: Load,
    recorder: Recorder,
    random: Random,
    blows: Vec<Blow>,
    events: u64,
    seed: u64,
    done: Done,
}

impl Storm {
    /// Two projectors, ready for these blows, which are dealt in some order.
    pub async fn start(place: Place, settings: &Settings, mut blows: Vec<Blow>) -> Self {
        println!("{settings:?}");
        let mut random = Random::new(settings.seed, 0);
        random.shuffle(&mut blows);
        let load = Load::start(&place, Random::new(settings.seed, 1)).await;
        let recorder = Recorder::start(&place).await;
        let projectors = Projectors::start(&place, ["", ""]).await;
        let (events, seed) = (settings.events, settings.seed);
        Self { place, projectors, load, recorder, random, blows, events, seed, done: Done::default() }
    }

    /// Deals the blows while events are appended, and checks what came of it.
    pub async fn rage(mut self) -> Done {
        let started = Instant::now();
        let blows = std::mem::take(&mut self.blows);
        for (blow, left) in blows.iter().zip((1..=blows.len() as u64).rev()) {
            let events = (self.events - self.load.position()) / left;
            self.round(*blow, events).await;
        }
        until_folded(&self.place, self.load.position()).await;
        self.done.took = started.elapsed();
        verify(&self.place).await;

        let heard = self.recorder.heard().await;
        let overlaps = signals::overlaps(&heard);
        assert!(overlaps.is_empty(), "seed {}: {overlaps:#?}\n{}", self.seed, self.projectors.said());
        assert_eq!(self.load.position(), self.events);
        let done = Done {
            frames: self.load.appended.len(),
            signals: heard.len(),
            takeovers: signals::takeovers(&heard),
            steps_back: signals::steps_back(&heard),
            longest_delay: signals::longest_delay(&heard, &self.load.appended),
            ..self.done
        };
        println!("{} events, {} blows: {done:#?}", self.events, blows.len());
        assert!(done.frames > blows.len() && done.signals > blows.len(), "{done:?}");
        assert!(done.longest_delay < DELAY_MAX, "{done:?}");
        done
    }

    /// A part of the load, and a blow at some moment of it.
    async fn round(&mut self, blow: Blow, events: u64) {
        let calm = Duration::from_millis(self.random.within(0..CALM_MS_MAX));
        let Self { place, projectors, load, random, done, .. } = self;
        let strike = async {
            tokio::time::sleep(calm).await;
            strike(blow, place, projectors, random, done).await;
        };
        tokio::join!(load.append(events), strike);
    }
}

async fn strike(
    blow: Blow,
    place: &mut Place,
    projectors: &mut Projectors,
    random: &mut Random,
    done: &mut Done,
) {
    let view = random.one_of(domain::views::ALL).name;
    let death = Duration::from_millis(random.within(0..DEATH_MS_MAX));
    let active = projectors.active(view).await;
    if random.percent(MIDST_PERCENT) {
        let views = projectors.folded_by(active).await;
        done.in_a_transaction += usize::from(in_a_transaction(place, &views).await);
        tokio::time::sleep(Duration::from_millis(random.within(0..MIDST_MS_MAX))).await;
    }
    match blow {
        Blow::Projector => kill(&mut projectors.all[active..=active]).await,
        Blow::Both => kill(&mut projectors.all).await,
        Blow::Postgres => {
            let before = positions(place).await.unwrap();
            place.servers.postgres.kill().await;
            tokio::time::sleep(death).await;
            servers(place).postgres.restart().await.unwrap();
            let after = positions(place).await.unwrap();
            let is_kept = before.iter().all(|(view, position)| after[view] >= *position);
            assert!(is_kept, "what could be read was lost: {before:?}, then {after:?}");
            recover(place, done).await;
        }
        Blow::Nats => {
            place.servers.nats.kill().await;
            tokio::time::sleep(death).await;
            servers(place).nats.restart().await.unwrap();
            recover(place, done).await;
        }
    }
}

/// Kills projectors, and starts them again.
async fn kill(victims: &mut [Instance]) {
    for victim in &*victims {
        victim.kill().await;
    }
    join_all(victims.iter_mut().map(Instance::restart)).await;
}

/// Nobody else holds the servers.
fn servers(place: &mut Place) -> &mut Servers {
    Arc::get_mut(&mut place.servers).unwrap()
}

/// Waits until the projectors have come back by themselves.
async fn recover(place: &Place, done: &mut Done) {
    let started = Instant::now();
    let head = place.log().await.head().await.unwrap();
    until_folded(place, head.position).await;
    done.longest_recovery = done.longest_recovery.max(started.elapsed());
}
