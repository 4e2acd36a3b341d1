//! More than a service takes: what comes on top is refused at once, what was taken is served, and afterwards
//! everything is as before. What single clients may do to a connection is tested beside the HTTP server.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use service_kit::Shutdown;
use sqlx::Connection;
use stack::servers::temporary_folder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, Service, World, until},
    instance::{pause, resume},
    issuer::Issuer,
    wire::Wire,
};

/// More than any bound here.
const CLIENTS: usize = 200;
const BOUND: usize = 8;

/// A service with bounds of its own.
struct Bounded {
    service: Service,
    http: reqwest::Client,
    _state: tempfile::TempDir,
}

impl Bounded {
    async fn query_service(place: &Place, flags: &[&str]) -> Self {
        let settings = ["--namespace", &place.namespace, "--database-url", &place.database_url];
        let nats_url = place.servers.nats.url_as("query-service");
        let nats = ["--nats-url", &nats_url];
        let config =
            query_service::Config::parse_from(["service"].iter().chain(&settings).chain(&nats).chain(flags));
        Self::start(|listener, shutdown| query_service::serve(listener, config, shutdown)).await
    }

    async fn command_service(place: &Place, flags: &[&str]) -> Self {
        Self::command_service_over(&place.servers.nats.url_as("command-service"), place, flags).await
    }

    async fn command_service_over(nats_url: &str, place: &Place, flags: &[&str]) -> Self {
        let state = temporary_folder().unwrap();
        let folder = state.path().to_str().unwrap().to_owned();
        let settings = ["--namespace", &place.namespace, "--nats-url", nats_url, "--state-dir", &folder];
        let config = command_service::Config::parse_from(["service"].iter().chain(&settings).chain(flags));
        let serve = |listener, shutdown| command_service::serve(listener, config, shutdown);
        Self { _state: state, ..Self::start(serve).await }
    }

    async fn start<F>(serve: impl FnOnce(TcpListener, Shutdown) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let service = Service::start(serve).await;
        let service = Self { service, http: reqwest::Client::new(), _state: temporary_folder().unwrap() };
        until("the service is ready", async || service.get("/health/ready").send().await.status == 200).await;
        service
    }

    fn get(&self, path: &str) -> Call {
        Call::new(self.http.get(format!("{}{path}", self.service.url)))
    }

    /// Sends a request of each of so many clients at once. The answers come as they are given.
    fn crowd(&self, clients: usize, request: impl Fn(&reqwest::Client, &str) -> Call) -> Crowd {
        let (sender, answers) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            // A client of its own has a connection of its own.
            let call = request(&reqwest::Client::new(), &self.service.url);
            let sender = sender.clone();
            tasks.spawn(async move { sender.send(call.send().await).unwrap() });
        }
        Crowd { tasks, answers }
    }

    /// Each client asks again once it is answered. At first there is room for all; then, before long, not any more.
    async fn serves_until_it_refuses(
        &self,
        clients: usize,
        request: impl Fn(&reqwest::Client, &str) -> Call,
    ) {
        let is_refused = Cell::new(false);
        let asking = (0..clients).map(async |_| {
            let (http, mut served) = (reqwest::Client::new(), 0);
            while !is_refused.get() {
                let answer = request(&http, &self.service.url).send().await;
                if answer.status.is_success() {
                    served += 1;
                } else {
                    assert_eq!(answer.problem(), (503, "overloaded"));
                    is_refused.set(true);
                }
            }
            served
        });
        let served = timeout(Duration::from_secs(30), join_all(asking)).await.expect("somebody is refused");
        let served: usize = served.into_iter().sum();
        println!("{served} were served");
        assert!(served > 0);
    }

    async fn stop(mut self) {
        self.service.stop().await;
    }
}

struct Crowd {
    tasks: JoinSet<()>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Crowd {
    async fn next(&mut self) -> Answer {
        let answer = timeout(Duration::from_secs(30), self.answers.recv()).await;
        answer.expect("an answer").expect("a client that waits for one")
    }

    /// The next answers are refusals.
    async fn are_refused(&mut self, clients: usize) {
        for _ in 0..clients {
            let answer = self.next().await;
            assert_eq!(answer.problem(), (503, "overloaded"));
            assert_eq!(answer.header("retry-after"), "1");
        }
    }

    fn nobody_else_is_answered(&mut self) {
        assert!(self.answers.try_recv().is_err());
    }
}

fn waiting_for(position: u64, id: Uuid) -> impl Fn(&reqwest::Client, &str) -> Call {
    move |http, url| {
        Call::new(http.get(format!("{url}/accounts/{id}?fields=username")))
            .header("Min-Position", position)
            .header("Prefer", "wait=30")
    }
}

fn register(http: &reqwest::Client, url: &str) -> Call {
    let name = format!("n{}", &Uuid::now_v7().simple().to_string()[12..]);
    let body = json!({"email": format!("{name}@example.org"), "username": name});
    Call::new(http.post(format!("{url}/accounts/register"))).json(&body)
}

#[tokio::test]
async fn queries_beyond_the_bound_are_refused_at_once_and_those_within_are_served() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    let queries = Bounded::query_service(&world.place, &["--max-in-flight", "8", "--max-waiting", "8"]).await;
    let mut crowd = queries.crowd(CLIENTS, waiting_for(2, ada));
    crowd.are_refused(CLIENTS - BOUND).await;
    crowd.nobody_else_is_answered();
    world.registered("bob").await;
    for _ in 0..BOUND {
        assert_eq!(crowd.next().await.text, r#"{"username":"ada"}"#);
    }
    let again = queries.get(&format!("/accounts/{ada}?fields=username")).send().await;
    assert_eq!(again.text, r#"{"username":"ada"}"#);
    queries.stop().await;
}

#[tokio::test]
async fn clients_that_leave_give_their_places_back() {
    let place = Place::new(Servers::shared().await).await;
    let queries = Bounded::query_service(&place, &["--max-in-flight", "8", "--max-waiting", "8"]).await;
    let mut crowd = queries.crowd(CLIENTS, waiting_for(2, Uuid::now_v7()));
    crowd.are_refused(CLIENTS - BOUND).await;
    let read = || queries.get("/accounts?limit=1").send();
    assert_eq!(read().await.problem(), (503, "overloaded"));
    crowd.tasks.abort_all();
    until("their places are free", async || read().await.status == StatusCode::OK).await;
    queries.stop().await;
}

#[tokio::test]
async fn queries_never_wait_without_bound_for_the_database() {
    let place = Place::new(Servers::shared().await).await;
    let bounds = ["--pool-size=4", "--max-in-flight=150", "--acquire-timeout-ms=300"];
    let queries = Bounded::query_service(&place, &bounds).await;
    let each_another = |http: &reqwest::Client, url: &str| {
        Call::new(http.get(format!("{url}/accounts/{}?fields=username", Uuid::now_v7())))
    };

    let mut database = place.database().await;
    let mut hold = database.begin().await.unwrap();
    sqlx::query("lock table accounts in access exclusive mode").execute(&mut *hold).await.unwrap();
    queries.crowd(CLIENTS, each_another).are_refused(CLIENTS).await;
    hold.rollback().await.unwrap();

    until("the database answers again", async || {
        queries.get("/accounts?limit=1").send().await.status == StatusCode::OK
    })
    .await;
    let mut crowd = queries.crowd(BOUND, each_another);
    for _ in 0..BOUND {
        assert_eq!(crowd.next().await.problem(), (404, "no-such-row"));
    }
    queries.stop().await;
}

#[tokio::test]
async fn queries_that_postgres_will_not_answer_soon_are_refused_at_once() {
    let mut place = Place::new(Servers::shared().await).await;
    let wire = Wire::to(&place.database_url).await;
    place.database_url = wire.instead(&place.database_url);
    // Nothing else has them refused before they have waited for long.
    let bounds = ["--pool-size=2", "--max-in-flight=1000", "--acquire-timeout-ms=20000"];
    let queries = Bounded::query_service(&place, &bounds).await;
    let list_of_somebody = |http: &reqwest::Client, url: &str| {
        let account = Uuid::now_v7();
        Call::new(http.get(format!("{url}/orders?account_id={account}&sort=-placed_at")))
    };

    // Two connections answer some hundred lists a second.
    wire.delay(Duration::from_millis(10));
    queries.serves_until_it_refuses(CLIENTS, list_of_somebody).await;
    wire.delay(Duration::ZERO);
    assert_eq!(queries.crowd(1, list_of_somebody).next().await.status, StatusCode::OK);
    queries.stop().await;
}

#[tokio::test]
async fn commands_that_will_not_be_decided_soon_are_refused_at_once() {
    let place = Place::new(Arc::new(Servers::start().await)).await;
    let nats_url = place.servers.nats.url_as("command-service");
    let wire = Wire::to(&nats_url).await;
    let commands = Bounded::command_service_over(&wire.instead(&nats_url), &place, &[]).await;

    // A frame, of whatever waits, takes a fifth of a second, and the queue has always room for 256.
    wire.delay(Duration::from_millis(100));
    commands.serves_until_it_refuses(3 * CLIENTS, register).await;
    wire.delay(Duration::ZERO);
    assert_eq!(commands.crowd(1, register).next().await.status, StatusCode::CREATED);
    commands.stop().await;
}

#[tokio::test]
async fn commands_beyond_the_bound_are_refused_at_once_and_those_within_are_decided() {
    let place = Place::new(Arc::new(Servers::start().await)).await;
    let commands = Bounded::command_service(&place, &["--queue-commands-max", "8"]).await;
    // What is sent to the log meanwhile waits.
    pause(place.servers.nats.pid());
    let mut crowd = commands.crowd(CLIENTS, register);
    crowd.are_refused(CLIENTS - BOUND).await;
    crowd.nobody_else_is_answered();
    resume(place.servers.nats.pid());
    for _ in 0..BOUND {
        assert_eq!(crowd.next().await.status, StatusCode::CREATED);
    }
    assert_eq!(commands.crowd(1, register).next().await.status, StatusCode::CREATED);
    commands.stop().await;
}

#[tokio::test]
async fn a_command_whose_body_never_ends_is_not_waited_for() {
    let place = Place::new(Servers::shared().await).await;
    let commands = Bounded::command_service(&place, &["--http-stall-timeout-ms", "300"]).await;
    for (path, media_type, answer) in [
        ("/accounts/register", "application/json", "malformed-json"),
        ("/commands", "application/x-ndjson", "import-interrupted"),
    ] {
        let mut client =
            TcpStream::connect(commands.service.url.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {media_type}\r\n\
             content-length: 1000\r\n\r\n{{"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(Duration::from_secs(30), client.read_to_string(&mut text)).await.unwrap().unwrap();
        assert!(text.contains(&format!(r#""code":"{answer}""#)), "{text}");
    }
    assert_eq!(commands.get("/health/live").send().await.text, "live\n");
    commands.stop().await;
}

/// The limit of one client.
const BURST: usize = 3;
const FLAGS: [&str; 6] =
    ["--client-requests-per-second", "1", "--client-burst", "3", "--trusted-proxies", "127.0.0.1"];

/// Sends many requests, one after the other, and gives the answers to those that were refused.
async fn refusals(ask: impl AsyncFn(usize) -> Answer) -> Vec<Answer> {
    let (begun, mut refused, mut taken) = (Instant::now(), vec![], 0);
    for number in 0..50 {
        match ask(number).await {
            answer if answer.status == StatusCode::OK => taken += 1,
            answer => refused.push(answer),
        }
    }
    let most = BURST + 1 + begun.elapsed().as_secs() as usize;
    assert!(refused.is_empty() || taken <= most, "{taken} were taken");
    refused
}

#[tokio::test]
async fn a_client_that_sends_too_much_is_refused_until_it_has_waited_and_nobody_else_is() {
    let place = Place::new(Servers::shared().await).await;
    let service = Bounded::query_service(&place, &FLAGS).await;
    let ask = async |path: &str, from: &str| service.get(path).header("X-Forwarded-For", from).send().await;
    let refused = refusals(async |_| ask("/accounts", "203.0.113.1").await).await;
    assert!((1..=50 - BURST).contains(&refused.len()), "{} were refused", refused.len());
    assert_eq!(refused[0].problem(), (429, "rate-limited"));
    assert_eq!(refused[0].header("retry-after"), "1");
    // Whatever it says of itself stands before what the proxy says.
    let again = refusals(async |_| ask("/accounts", "127.0.0.1, 198.51.100.1, 203.0.113.1").await).await;
    assert!(!again.is_empty());
    for (path, from) in [
        ("/accounts", "203.0.113.2"),
        ("/health/ready", "203.0.113.1"),
        ("/problems/rate-limited", "203.0.113.1"),
    ] {
        assert_eq!(ask(path, from).await.status, StatusCode::OK, "{path} {from}");
    }
    assert_eq!(refusals(async |_| service.get("/accounts").send().await).await.len(), 0, "this machine");
    until("it has waited", async || ask("/accounts", "203.0.113.1").await.status == StatusCode::OK).await;
    let metrics = service.get("/metrics").send().await.text;
    assert!(metrics.contains("headwater_http_requests_rate_limited_total"), "{metrics}");
    service.stop().await;

    // Who is not known for a proxy is not believed.
    let unaware = Bounded::query_service(&place, &FLAGS[..4]).await;
    let ask = async |_| unaware.get("/accounts").header("X-Forwarded-For", "203.0.113.1").send().await;
    assert_eq!(refusals(ask).await.len(), 0);
    unaware.stop().await;
}

#[tokio::test]
async fn a_client_is_known_by_its_token_wherever_it_is() {
    let (place, issuer) = (Place::new(Servers::shared().await).await, Issuer::new());
    let flags = issuer.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(FLAGS).collect();
    let service = Bounded::query_service(&place, &flags).await;
    let ask = async |subject: &str, number: usize| {
        let call = service.get("/accounts").header("X-Forwarded-For", format!("203.0.113.{number}"));
        call.token(&issuer.token(subject, "accounts:read:any")).send().await
    };
    let refused = refusals(async |number| ask("ada", number).await).await;
    assert_eq!(refused[0].problem(), (429, "rate-limited"));
    assert_eq!(ask("eve", 0).await.status, StatusCode::OK);
    service.stop().await;
}
