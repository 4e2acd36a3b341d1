//! What others can reach asks who they are.

use clap::Parser;
use reqwest::StatusCode;
use service_kit::Shutdown;
use stack::ports;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    harness::{Call, Place, Servers, until},
    issuer::{Issuer, flags},
};

const DATABASE: [&str; 2] = ["--database-url", "postgres://nobody@127.0.0.1:1/none"];

async fn everywhere() -> TcpListener {
    TcpListener::bind("0.0.0.0:0").await.unwrap()
}

/// Why each service does not start beyond loopback with these settings.
async fn refusals(more: &[&str]) -> Vec<(&'static str, anyhow::Error)> {
    let parts = |own: &[&'static str]| -> Vec<String> {
        ["service"].iter().chain(own).chain(more).map(|part| (*part).to_owned()).collect()
    };
    let (end, mut refusals) = (Shutdown::new(), Vec::new());
    // One that does start ends at once, and then there is no refusal.
    end.cancel();
    let config = command_service::Config::parse_from(parts(&[]));
    let served = command_service::serve(everywhere().await, config, end.clone()).await;
    refusals.extend(served.err().map(|error| ("command-service", error)));
    let config = query_service::Config::parse_from(parts(&DATABASE));
    let served = query_service::serve(everywhere().await, config, end.clone()).await;
    refusals.extend(served.err().map(|error| ("query-service", error)));
    let config = projector::Config::parse_from(parts(&DATABASE));
    let served = projector::serve(everywhere().await, config, domain::views::ALL, end.clone()).await;
    refusals.extend(served.err().map(|error| ("projector", error)));
    let config = task_worker::Config::parse_from(parts(&["--mail", "null:"]));
    let served = task_worker::serve(everywhere().await, config, domain::policies::ALL, end).await;
    refusals.extend(served.err().map(|error| ("task-worker", error)));
    refusals
}

fn all_say(refusals: &[(&'static str, anyhow::Error)], words: &str) {
    let services: Vec<_> = refusals.iter().map(|(service, _)| *service).collect();
    assert_eq!(services, ["command-service", "query-service", "projector", "task-worker"]);
    for (service, error) in refusals {
        let error = format!("{error:#}");
        assert!(error.contains(words), "{service}: {error}");
    }
}

#[tokio::test]
async fn no_service_listens_to_others_without_asking_who_they_are() {
    all_say(&refusals(&[]).await, "--auth-jwks");
}

#[tokio::test]
async fn no_service_starts_without_the_keys_that_it_was_told_of() {
    let nowhere = flags("/nowhere/jwks.json");
    let nowhere: Vec<&str> = nowhere.iter().map(String::as_str).collect();
    all_say(&refusals(&nowhere).await, "/nowhere/jwks.json");
}

/// A query-service that others can reach, until it is dropped.
struct Reachable {
    url: String,
    end: Shutdown,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Reachable {
    async fn with(place: &Place, issuer: &Issuer, more: &[&str]) -> Self {
        let listener = everywhere().await;
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let ours = ["service", "--namespace", &place.namespace, "--database-url", &place.database_url];
        let flags = issuer.flags();
        let flags = flags.iter().map(String::as_str).chain(more.iter().copied());
        let config = query_service::Config::parse_from(ours.into_iter().chain(flags));
        let end = Shutdown::new();
        let serving = tokio::spawn(query_service::serve(listener, config, end.clone()));
        until("it serves", async || reqwest::get(format!("{url}/health/live")).await.is_ok()).await;
        Self { url, end, serving }
    }

    async fn stop(self) {
        self.end.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn metrics(url: &str) -> Call {
    Call::new(reqwest::Client::new().get(format!("{url}/metrics")))
}

/// Whoever has no token, or one for something else, learns nothing at this address.
async fn asks_who_measures(url: &str, issuer: &Issuer) {
    assert_eq!(metrics(url).send().await.problem(), (401, "unauthenticated"));
    assert_eq!(metrics(url).token(&issuer.token("eve", "")).send().await.problem(), (403, "forbidden"));
    let scraper = issuer.token("prometheus", "metrics:read");
    assert_eq!(metrics(url).token(&scraper).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn measurements_are_for_this_machine_or_for_a_scope() {
    let issuer = Issuer::new();
    let place = Place::new(Servers::shared().await).await;
    let service = Reachable::with(&place, &issuer, &[]).await;
    asks_who_measures(&service.url, &issuer).await;
    service.stop().await;
}

#[tokio::test]
async fn an_address_for_those_who_watch_is_open_on_this_machine_alone() {
    let issuer = Issuer::new();
    let place = Place::new(Servers::shared().await).await;
    for (host, is_open) in [("127.0.0.1", true), ("0.0.0.0", false)] {
        let port = ports::next_free(0).unwrap();
        let address = format!("{host}:{port}");
        let service = Reachable::with(&place, &issuer, &["--admin-address", &address]).await;
        let admin = format!("http://127.0.0.1:{port}");
        match is_open {
            true => assert_eq!(metrics(&admin).send().await.status, StatusCode::OK),
            false => asks_who_measures(&admin, &issuer).await,
        }
        service.stop().await;
    }
}
