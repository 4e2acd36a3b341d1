//! Both services say how loaded they are, so that work which can wait does.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use futures::{FutureExt, StreamExt, future::join_all};
use reqwest::Client;
use service_kit::load::{LoadReport, subject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Answer, Call, Place, Servers, Service, World, until};

/// Longer than what a report tells of.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// Hears what one service says.
struct Ear(Subscriber);

impl Ear {
    async fn at(place: &Place, service: &str) -> Self {
        let client = place.nats().await;
        let subscriber = client.subscribe(subject(&place.namespace, "local", service)).await.unwrap();
        client.flush().await.unwrap();
        Self(subscriber)
    }

    async fn next(&mut self) -> LoadReport {
        let message = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await;
        serde_json::from_slice(&message.expect("a report").unwrap().payload).unwrap()
    }

    /// The reports that are made while `happening`, and within a while after it.
    async fn during(&mut self, happening: impl Future<Output = ()>) -> Vec<LoadReport> {
        // What was said before says nothing of it.
        while self.0.next().now_or_never().is_some() {}
        let mut reports = Vec::new();
        let mut happening = pin!(async {
            happening.await;
            tokio::time::sleep(A_WHILE).await;
        });
        loop {
            tokio::select! {
                () = &mut happening => return reports,
                report = self.next() => reports.push(report),
            }
        }
    }
}

/// A query for a position that will not come, on a connection of its own.
async fn waiting(service: &Service, path: &str, seconds: u32) -> Answer {
    let call = Call::new(Client::new().get(format!("{}{path}", service.url)));
    call.header("Min-Position", 1_000_000).header("Prefer", format!("wait={seconds}")).send().await
}

#[tokio::test]
async fn both_services_say_their_load_several_times_a_second() {
    let world = World::start().await;
    let namespace = &world.place.namespace;
    let spoken = [("command-service", 8192, 100.0), ("query-service", 1024, 50.0)];
    for (service, queued_max, p99_target_ms) in spoken {
        let mut ear = Ear::at(&world.place, service).await;
        let first = ear.next().await;
        let began = Instant::now();
        for _ in 0..4 {
            let report = ear.next().await;
            assert_eq!((&report.service[..], &report.region[..]), (service, "local"));
            assert_eq!(report.instance, first.instance);
            assert!(report.in_flight_max > 0 && report.queued_max == queued_max, "{report:?}");
            assert!(report.p99_target_ms == p99_target_ms, "{report:?}");
            assert!((0.0..=1.0).contains(&report.utilisation), "{report:?}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{namespace}: four reports took {:?}",
            began.elapsed()
        );
    }
    let metrics = world.get("/metrics").send().await.text;
    for name in ["load_pressure", "load_utilisation", "load_p99_seconds", "load_shed_total"] {
        assert!(metrics.contains(&format!("headwater_{name}{{service=\"query-service\"}}")), "no {name}");
    }
}

#[tokio::test]
async fn a_request_under_way_counts_until_it_is_answered() {
    let world = World::start().await;
    let mut ear = Ear::at(&world.place, "query-service").await;
    let reports = ear
        .during(async {
            join_all((0..3).map(|_| waiting(&world.queries, "/accounts", 1))).await;
        })
        .await;
    assert!(reports.iter().all(|report| report.in_flight <= 3), "{reports:?}");
    assert!(reports.iter().any(|report| (report.in_flight, report.queued) == (3, 3)), "{reports:?}");
    until("nothing is under way", async || ear.next().await.in_flight == 0).await;
}

#[tokio::test]
async fn what_the_frame_answers_is_no_load() {
    let world = World::start().await;
    let mut ear = Ear::at(&world.place, "query-service").await;
    let reports = ear
        .during(async {
            for path in ["/health/ready", "/health/live", "/metrics", "/problems/overloaded"].repeat(5) {
                assert_eq!(world.get(path).send().await.status, 200);
            }
        })
        .await;
    let last = reports.last().unwrap();
    assert!(reports.iter().all(|report| report.in_flight == 0 && report.p99_ms == 0.0), "{last:?}");
}

#[tokio::test]
async fn an_event_stream_is_not_under_way_for_as_long_as_it_lives() {
    let world = World::start().await;
    let mut ear = Ear::at(&world.place, "query-service").await;
    let stream = Client::new().get(format!("{}/accounts", world.queries.url));
    let stream = stream.header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    until("nothing is under way", async || ear.next().await.in_flight == 0).await;
    drop(stream);
}

#[tokio::test]
async fn a_query_that_waits_for_its_position_does_not_make_the_service_slow() {
    let world = World::start().await;
    let mut ear = Ear::at(&world.place, "query-service").await;
    let reports = ear
        .during(async {
            let answers = join_all((0..5).map(|_| waiting(&world.queries, "/accounts", 1))).await;
            assert!(answers.iter().all(|answer| answer.problem() == (503, "view-behind")));
        })
        .await;
    let slowest = reports.iter().map(|report| report.p99_ms).fold(0.0, f64::max);
    assert!(
        0.0 < slowest && slowest < 500.0,
        "p99 {slowest} ms, though the queries only waited: {reports:?}"
    );
    assert!(
        reports.iter().all(|report| report.shed_per_second == 0.0),
        "being behind is no load: {reports:?}"
    );
}

#[tokio::test]
async fn a_query_that_waits_for_the_database_makes_the_service_slow() {
    let world = World::start().await;
    let mut ear = Ear::at(&world.place, "query-service").await;
    let mut database = world.place.database().await;
    sqlx::raw_sql("begin; lock table accounts in access exclusive mode")
        .execute(&mut database)
        .await
        .unwrap();
    let reports = ear
        .during(async {
            let slow =
                join_all((0..3).map(|limit| world.get(&format!("/accounts?limit={}", limit + 1)).send()));
            let release = async {
                tokio::time::sleep(Duration::from_millis(600)).await;
                sqlx::raw_sql("rollback").execute(&mut database).await.unwrap();
            };
            tokio::join!(slow, release);
        })
        .await;
    let pressed = reports.iter().find(|report| report.p99_ms > 500.0).expect("a report that says so");
    assert!(pressed.pressure > 10.0 && pressed.reason.starts_with("p99"), "{pressed:?}");
    until("that is over", async || ear.next().await.pressure < 1.0).await;
}

/// Registers an account with a body that comes a second after its head.
async fn register_slowly(world: &World, number: u32) {
    let body = format!(r#"{{"email": "slow{number}@example.org", "username": "slow{number}"}}"#);
    let mut client = TcpStream::connect(world.commands.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /accounts/register HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_slowly_does_not_make_the_service_slow() {
    let world = World::start().await;
    let mut ear = Ear::at(&world.place, "command-service").await;
    let reports = ear
        .during(async {
            join_all((0..5).map(|number| register_slowly(&world, number))).await;
        })
        .await;
    let slowest = reports.iter().map(|report| report.p99_ms).fold(0.0, f64::max);
    assert!(0.0 < slowest && slowest < 500.0, "p99 {slowest} ms: {reports:?}");
}

#[tokio::test]
async fn a_request_refused_because_of_load_shows_at_once() {
    let place = Place::new(Servers::shared().await).await;
    let bounds = ["--max-in-flight", "2", "--max-waiting", "2", "--region", "north"];
    let queries = place.query_service_with(&place.servers.nats.url_as("query-service"), &bounds).await;
    let world = World::with(place, queries).await;
    let client = world.place.nats().await;
    let reports = client.subscribe(subject(&world.place.namespace, "north", "query-service")).await.unwrap();
    client.flush().await.unwrap();
    let mut ear = Ear(reports);
    let reports = ear
        .during(async {
            let answers = join_all((0..5).map(|_| waiting(&world.queries, "/accounts", 1))).await;
            let refused = answers.iter().filter(|answer| answer.problem() == (503, "overloaded")).count();
            assert_eq!(refused, 3);
        })
        .await;
    let shedding = reports.iter().find(|report| report.shed_per_second > 0.0).expect("a report that says so");
    assert!(shedding.pressure >= 1.5 && shedding.reason.contains("refused"), "{shedding:?}");
    until("that is over", async || ear.next().await.pressure < 1.0).await;
}
