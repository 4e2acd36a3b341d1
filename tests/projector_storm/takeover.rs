//! A view whose projector is gone is folded on by another, soon; and one that was only frozen does no harm.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use stack::services::PROJECTOR;
use uuid::Uuid;

use super::{
    load::Load,
    projectors::{Projectors, in_a_transaction, until_folded},
    signals::{self, Recorder},
};
use crate::{
    harness::{Place, Servers, until, verify},
    storm::random::Random,
};

/// What is appended right after a projector was killed stands in all views within this time.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(3);
/// The same after one was frozen: Postgres ends a session that is silent for 10 seconds.
const THAW_TIME_MAX: Duration = Duration::from_secs(14);

struct Scene {
    place: Place,
    load: Load,
    recorder: Recorder,
    projectors: Projectors,
}

impl Scene {
    /// Two projectors, each of which folds two of the views.
    async fn start() -> Self {
        let place = Place::new(Servers::shared().await).await;
        let mut load = Load::start(&place, Random::new(Uuid::now_v7().as_u64_pair().1, 0)).await;
        let recorder = Recorder::start(&place).await;
        let projectors = Projectors::start(&place, ["", ""]).await;
        projectors.until_folding([2, 2]).await;
        load.append_frame(100).await;
        until_folded(&place, load.position()).await;
        Self { place, load, recorder, projectors }
    }

    /// How long it takes until an event that is appended now stands in all views.
    async fn until_the_next_is_folded(&mut self) -> Duration {
        let started = Instant::now();
        self.load.append_frame(1).await;
        until_folded(&self.place, self.load.position()).await;
        started.elapsed()
    }

    /// Every view is what the log folds to, and no event was folded twice.
    async fn check(&self) {
        verify(&self.place).await;
        let overlaps = signals::overlaps(&self.recorder.heard().await);
        assert!(overlaps.is_empty(), "{overlaps:#?}");
    }
}

#[tokio::test]
async fn another_projector_folds_on_soon_after_one_was_killed() {
    let mut scene = Scene::start().await;
    let active = scene.projectors.active("orders").await;
    scene.projectors.all[active].kill().await;
    let took = scene.until_the_next_is_folded().await;
    println!("folded {took:?} after a projector was killed");
    assert!(took < TAKEOVER_TIME_MAX, "{took:?}");

    // The one that is left has all views, so nobody folds any of them for a while.
    scene.projectors.all[active].restart().await;
    let other = 1 - active;
    scene.projectors.all[other].kill().await;
    let took = scene.until_the_next_is_folded().await;
    println!("folded {took:?} after the other was killed");
    assert!(took < TAKEOVER_TIME_MAX, "{took:?}");
    scene.check().await;
}

/// What Postgres itself does not notice: it waits for the rest of what is copied for as long as the client's machine is there.
#[tokio::test]
async fn a_projector_that_falls_silent_within_a_copy_is_replaced() {
    let place = Place::new(Servers::shared().await).await;
    let mut silent = PgConnection::connect(&place.database_url_as(PROJECTOR)).await.unwrap();
    let lock = "select pg_advisory_lock(hashtextextended('headwater view accounts build 1', 0))";
    sqlx::query(lock).execute(&mut silent).await.unwrap();
    let begun = silent.copy_in_raw("copy public.accounts (id) from stdin").await.unwrap();

    let mut load = Load::start(&place, Random::new(Uuid::now_v7().as_u64_pair().1, 0)).await;
    let projectors = Projectors::start(&place, [""]).await;
    let started = Instant::now();
    load.append_frame(1).await;
    until_folded(&place, load.position()).await;
    let took = started.elapsed();
    println!("folded {took:?} after one fell silent within a copy");
    assert!(took < THAW_TIME_MAX, "{took:?}");
    let said = projectors.said();
    assert!(said.contains("fell silent"), "{said}");
    assert!(begun.finish().await.is_err(), "its session is over");
}

#[tokio::test]
async fn a_frozen_projector_is_replaced_and_does_no_harm_when_it_wakes() {
    let mut scene = Scene::start().await;
    let active = scene.projectors.active("orders").await;
    let frozen = &scene.projectors.all[active];
    let views = scene.projectors.folded_by(active).await;
    until("it is frozen within a transaction, whose locks it keeps", async || {
        tokio::join!(scene.load.append_frame(500), async {
            in_a_transaction(&scene.place, &views).await;
            frozen.pause();
        });
        let is_within = in_a_transaction(&scene.place, &views).await;
        if !is_within {
            frozen.resume();
        }
        is_within
    })
    .await;
    let took = scene.until_the_next_is_folded().await;
    println!("folded {took:?} after a projector was frozen");
    assert!(took < THAW_TIME_MAX, "{took:?}");

    scene.load.append(300).await;
    let frozen = &scene.projectors.all[active];
    tokio::join!(scene.load.append(1_000), async { frozen.resume() });
    scene.projectors.until_folding([2, 2]).await;
    scene.load.append(300).await;
    scene.check().await;
    let said = scene.projectors.all[active].said();
    assert!(said.contains("interrupted"), "it noticed that it had lost its views: {said}");
}
