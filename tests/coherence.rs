//! Whatever goes wrong between the database, the signals and the replica, each answer is exactly what the log folds
//! to at the position that the answer says.

mod clients;
mod wire;

use std::sync::Arc;

use crate::{
    harness::{Place, Servers, World},
    standby::Standby,
};
use clients::Clients;
use wire::Wire;

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_right_while_rows_change_and_the_standby_lags() {
    let place = Place::new(Servers::shared().await).await;
    let standby = Standby::of(&place.servers).await;
    let url = standby.postgres.database_url(&place.namespace);
    let nats_url = place.servers.nats.url_as("query-service");
    let queries = place.query_service_with(&nats_url, &["--standby-url", &url]).await;
    let mut world = World::with(place, queries).await;
    let clients = Clients::start(&world).await;
    clients.go_on(300, 60).await;
    for _ in 0..2 {
        standby.pause().await;
        clients.go_on(300, 60).await;
        standby.resume().await;
        clients.go_on(300, 60).await;
    }
    // What the projector signals first is that it knows nothing.
    world.projector.crash().await;
    world.projector = world.place.projector().await;
    clients.go_on(300, 60).await;
    clients.stop(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_right_when_signals_are_late_or_lost() {
    let place = Place::new(Servers::shared().await).await;
    let wire = Wire::to(place.servers.nats.url_as("query-service")).await;
    let queries = place.query_service_with(&wire.url, &[]).await;
    let world = World::with(place, queries).await;
    let clients = Clients::start(&world).await;
    clients.go_on(300, 60).await;
    for _ in 0..2 {
        // Nothing comes through, and nobody is told.
        wire.freeze();
        clients.go_on(300, 60).await;
        clients.until_answers_reach_what_is_written().await;
        wire.thaw();
        clients.go_on(150, 30).await;
        wire.cut();
        clients.go_on(150, 30).await;
        clients.until_answers_reach_what_is_written().await;
    }
    clients.stop(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_right_when_nats_is_killed() {
    let place = Place::new(Arc::new(Servers::start().await)).await;
    let queries = place.query_service().await;
    let mut world = World::with(place, queries).await;
    let clients = Clients::start(&world).await;
    clients.go_on(300, 60).await;
    for _ in 0..2 {
        world.place.servers.nats.kill().await;
        // Nothing can be written, and everything can be read.
        clients.go_on(150, 0).await;
        Arc::get_mut(&mut world.place.servers).unwrap().nats.restart().await.unwrap();
        clients.go_on(300, 60).await;
    }
    clients.stop(&world).await;
}
