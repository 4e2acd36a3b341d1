//! Whatever goes wrong between the database, the signals and the replica, each answer is exactly what the log folds
//! to at the position that the answer says.

mod clients;

use std::sync::Arc;

use crate::{
    harness::{Place, Servers, World},
    standby::Standby,
    wire::Wire,
};
use clients::Clients;

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_right_while_rows_change_and_the_standby_lags() {
    let place = Place::new(Servers::shared().await).await;
    let standby = Standby::of(&place.servers.postgres).await;
    let url = standby.url_of(&place);
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
    let nats_url = place.servers.nats.url_as("query-service");
    let wire = Wire::to(&nats_url).await;
    let queries = place.query_service_with(&wire.instead(&nats_url), &[]).await;
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

/// A database whose primary is replaced by its standby. The services know the primary by an address that moves.
struct Failover {
    world: World,
    standby: Standby,
    primary: Wire,
    clients: Clients,
}

impl Failover {
    async fn prepare() -> Self {
        let mut place = Place::new(Arc::new(Servers::start().await)).await;
        let standby = Standby::of(&place.servers.postgres).await;
        let standby_url = standby.url_of(&place);
        let primary = Wire::to(&place.database_url).await;
        place.database_url = primary.instead(&place.database_url);
        let nats_url = place.servers.nats.url_as("query-service");
        let queries = place.query_service_with(&nats_url, &["--standby-url", &standby_url]).await;
        let world = World::with(place, queries).await;
        let clients = Clients::start(&world).await;
        clients.go_on(300, 60).await;
        Self { world, standby, primary, clients }
    }

    async fn promote(self) {
        self.standby.promote().await;
        self.primary.lead_to(&self.standby.postgres.url());
        self.clients.until_answers_reach_what_is_written().await;
        self.clients.go_on(300, 60).await;
        self.clients.stop(&self.world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_the_primary_is_stopped_and_its_standby_promoted() {
    let failover = Failover::prepare().await;
    failover.world.place.servers.postgres.stop().await;
    failover.primary.cut();
    failover.clients.go_on(50, 60).await;
    failover.promote().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_right_when_a_standby_is_promoted_that_lacks_what_was_committed_last() {
    let failover = Failover::prepare().await;
    // What the primary commits from here on is gone with it.
    failover.standby.leave_primary().await;
    failover.clients.go_on(300, 60).await;
    failover.world.place.servers.postgres.kill().await;
    failover.primary.cut();
    // Commands need no Postgres. Nothing is read meanwhile: what is left is older than what was answered before, and
    // is given again only when the projector says that there is nothing newer, while it folds the rest anew.
    failover.clients.go_on(0, 60).await;
    failover.clients.until_nothing_is_answered().await;
    failover.clients.forget();
    failover.promote().await;
}
