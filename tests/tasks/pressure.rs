//! Tasks wait while the services are busy, but none past its deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{policies::WelcomeEmail, policy::Definition};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{get, registered, started, started_of, tasks};
use crate::{
    harness::{Place, Served, Servers, Service, World, until},
    instance::Instance,
    smtp::SmtpServer,
};

/// Enough of them to keep a query-service that takes two refusing the others.
const CLIENTS: usize = 6;

/// More queries than a query-service takes, until it is dropped.
struct Rush {
    refused: Arc<AtomicUsize>,
    _clients: JoinSet<()>,
}

impl Rush {
    fn on(queries: &Service) -> Self {
        let refused = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(insist(format!("{}/accounts", queries.url), refused.clone()));
        }
        Self { refused, _clients: clients }
    }

    /// Waits until so many more queries were refused.
    async fn goes_on(&self, count: usize) {
        let before = self.refused.load(Ordering::Relaxed);
        until("the service refuses", async || self.refused.load(Ordering::Relaxed) >= before + count).await;
    }
}

/// Asks again and again for a position that will not come.
async fn insist(url: String, refused: Arc<AtomicUsize>) {
    let client = Client::new();
    loop {
        let request = client.get(&url).header("Min-Position", 1_000_000).header("Prefer", "wait=5");
        let answer = request.send().await.unwrap();
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE
            && answer.text().await.unwrap().contains("overloaded")
        {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A world whose query-service is in a region, and takes two queries at once.
async fn narrow(region: &str) -> World {
    let place = Place::new(Servers::shared().await).await;
    let settings = ["--max-in-flight", "2", "--max-waiting", "2", "--region", region];
    let queries = place.query_service_with(&place.servers.nats.url_as("query-service"), &settings).await;
    World::with(place, queries).await
}

async fn pace(worker: &impl Served) -> Value {
    tasks(worker).await["pace"].clone()
}

/// Waits until the worker says that a service which refuses holds it back.
async fn until_held(worker: &impl Served, region: &str) {
    until("tasks are held back", async || {
        let (pace, whose) = (pace(worker).await, format!("query-service in {region}"));
        let reason = pace["reason"].as_str().unwrap();
        pace["state"] == "held" && reason.contains(&whose) && reason.contains("refused")
    })
    .await;
}

async fn until_metric(worker: &impl Served, line: &str) {
    let line = format!("{line}\n");
    until(&line, async || get(worker, "/metrics").await.text.contains(&line)).await;
}

/// When the first of so many emails was there, and how long it took from there to the last.
async fn arrivals(smtp: &SmtpServer, count: usize) -> (Instant, Duration) {
    until("the first email is there", async || smtp.count() > 0).await;
    let first = Instant::now();
    until("the last email is there", async || smtp.count() == count).await;
    (first, first.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_service_is_busy_no_task_is_begun_and_when_that_ends_they_go_on() {
    let (world, smtp) = (narrow("local").await, SmtpServer::start().await);
    let logs = tempfile::tempdir().unwrap();
    let settings = [("HEADWATER_MAIL", &*smtp.url())];
    // A process of its own, because all workers of one process share their metrics.
    let worker = Instance::task_worker(&world.place, logs.path().join("log"), &settings).await;
    world.registered("before").await;
    until("it is welcomed", async || smtp.count() == 1).await;
    until_metric(&worker, "headwater_tasks_held 0").await;

    let rush = Rush::on(&world.queries);
    until_held(&worker, "local").await;
    registered(&world, 5).await;
    until("they are owed", async || tasks(&worker).await["policies"][0]["ready"] == 5).await;
    rush.goes_on(300).await;
    until_held(&worker, "local").await;
    assert_eq!((smtp.count(), &tasks(&worker).await["policies"][0]["ready"]), (1, &5.into()));
    assert_eq!(pace(&worker).await["slots"], 0);
    until_metric(&worker, "headwater_tasks_held 1").await;

    drop(rush);
    until("all are welcomed", async || smtp.count() == 6).await;
    assert_ne!(pace(&worker).await["state"], "held");
    until_metric(&worker, "headwater_tasks_held 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_at_its_deadline_is_done_though_the_services_are_busy_at_a_bounded_rate() {
    const HURRIED: &[Definition] = &[Definition { within_seconds: 5, ..Definition::of::<WelcomeEmail>() }];
    // The last tenth is for doing it.
    const HELD: Duration = Duration::from_millis(4_500);
    let (world, smtp) = (narrow("local").await, SmtpServer::start().await);
    let settings = ["--mail", &*smtp.url(), "--trickle-per-second", "2"];
    let worker = started_of(HURRIED, &world, &settings).await;
    let rush = Rush::on(&world.queries);
    until_held(&worker, "local").await;

    let began = Instant::now();
    registered(&world, 10).await;
    let (first, spread) = arrivals(&smtp, 10).await;
    assert!(first - began >= HELD, "the first came after {:?}", first - began);
    assert!(first - began < HELD + Duration::from_secs(3), "the first came after {:?}", first - began);
    // Two at once, and the other eight one after the other.
    assert!(spread >= Duration::from_millis(3_800), "ten came within {spread:?}");
    rush.goes_on(1).await;
    until_held(&worker, "local").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hears_no_service_says_so_and_works_at_a_bounded_rate() {
    let (world, smtp) = (World::start().await, SmtpServer::start().await);
    let settings = ["--mail", &*smtp.url(), "--regions", "nowhere", "--trickle-per-second", "2"];
    let worker = started(&world, &settings).await;
    registered(&world, 6).await;
    let (_, spread) = arrivals(&smtp, 6).await;
    assert!(spread >= Duration::from_millis(1_800), "six came within {spread:?}");
    until("it says that it hears nobody", async || {
        let pace = pace(&worker).await;
        pace["state"] == "blind" && pace["reason"] == "no service says how busy it is"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_of_another_region_holds_nothing_back() {
    let (world, smtp) = (narrow("south").await, SmtpServer::start().await);
    let northern = started(&world, &["--mail", &smtp.url(), "--regions", "local"]).await;
    let southern = started(&world, &["--mail", &smtp.url(), "--regions", "south"]).await;
    let rush = Rush::on(&world.queries);
    until_held(&southern, "south").await;
    registered(&world, 5).await;
    until("all are welcomed", async || smtp.count() == 5).await;
    rush.goes_on(1).await;
    until_held(&southern, "south").await;
    assert_ne!(pace(&northern).await["state"], "blind", "it hears the services of its own region");
}
