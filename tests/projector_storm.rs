//! Two projectors over one database, a load on the log, and a storm that kills them, or the servers under them.
//! In the end every view must be what the log folds to, and no event may have been folded twice meanwhile.
//!
//! `HEADWATER_PROJECTOR_SEED=<seed of a run>` lets chance choose the same again; the others of [`Settings`] make
//! the storms longer: `HEADWATER_PROJECTOR_KILLS=50 HEADWATER_PROJECTOR_POSTGRES_KILLS=10
//! HEADWATER_PROJECTOR_NATS_KILLS=10 HEADWATER_PROJECTOR_EVENTS=50000 cargo test --workspace --test system
//! projector_storm -- --nocapture`.

mod chaos;
mod load;
mod projectors;
mod signals;
mod spread;
mod takeover;

use std::{env, sync::Arc};

use uuid::Uuid;

use crate::{
    harness::{Place, Servers},
    storm::alone,
};
use chaos::{Blow, Storm};

#[derive(Debug)]
pub struct Settings {
    pub seed: u64,
    pub events: u64,
    pub kills: usize,
    pub postgres_kills: usize,
    pub nats_kills: usize,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default: u64| match env::var(format!("HEADWATER_PROJECTOR_{name}")) {
            Ok(text) => text.parse().unwrap(),
            Err(_) => default,
        };
        Self {
            seed: number("SEED", Uuid::now_v7().as_u64_pair().1),
            events: number("EVENTS", 5_000),
            kills: number("KILLS", 8) as usize,
            postgres_kills: number("POSTGRES_KILLS", 2) as usize,
            nats_kills: number("NATS_KILLS", 2) as usize,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_equal_the_log_however_often_a_projector_is_killed() {
    let _alone = alone().await;
    let settings = Settings::read();
    // Every fifth kill hits both of them.
    let blows = (0..settings.kills).map(|kill| if kill % 5 == 4 { Blow::Both } else { Blow::Projector });
    let place = Place::new(Servers::shared().await).await;
    let storm = Storm::start(place, &settings, blows.collect()).await;
    let done = storm.rage().await;
    assert_eq!(done.steps_back, Vec::<String>::new());
    assert!(done.takeovers > settings.kills, "each kill of who folds a view leads to a takeover: {done:?}");
    assert!(done.in_a_transaction > 0, "some were killed in the midst of their work: {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_equal_the_log_however_often_postgres_and_nats_are_killed() {
    let _alone = alone().await;
    let settings = Settings::read();
    let mut blows = vec![Blow::Postgres; settings.postgres_kills];
    blows.extend(vec![Blow::Nats; settings.nats_kills]);
    let place = Place::new(Arc::new(Servers::start().await)).await;
    Storm::start(place, &settings, blows).await.rage().await;
}
