//! What services tell an OpenTelemetry collector: one trace from the request to the email, across all of them, and
//! nothing about persons. A collector that is away, or that takes its time, is nobody's trouble.

mod collector;
mod dashboards;
mod watching;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    harness::{Place, Servers, until},
    instance::{Instance, writer},
    smtp::SmtpServer,
};
use collector::{Collector, Span};

/// What nobody may find in anything that is told.
const PERSON: &str = "planted-person";

/// All services, each a process that tells the collector.
struct Watched {
    collector: Collector,
    place: Place,
    /// The writer first.
    commands: Vec<Instance>,
    queries: Instance,
    others: Vec<Instance>,
    smtp: SmtpServer,
    folder: TempDir,
}

/// What a client sends along, to have its request traced.
struct Client {
    trace: String,
    span: String,
}

impl Client {
    fn new() -> Self {
        let trace = Uuid::now_v7().simple().to_string();
        Self { span: trace[16..].to_owned(), trace }
    }

    fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.span)
    }
}

impl Watched {
    async fn start() -> Self {
        let collector = Collector::start().await;
        let place = Place::new(Servers::shared().await).await;
        let folder = temporary_folder().unwrap();
        let (path, settings) = (|name: &str| folder.path().join(name), || collector.settings());
        let mut commands = Vec::new();
        for name in ["a", "b"] {
            commands.push(Instance::start_with(&place, &path(name), settings()).await);
        }
        let first = writer(&commands).await;
        commands.swap(0, first);
        let smtp = SmtpServer::start().await;
        let queries = Instance::query_service_with(&place, path("queries.log"), settings()).await;
        let projector = Instance::projector_with(&place, path("projector.log"), settings()).await;
        let mut of_worker = settings();
        of_worker.push(("HEADWATER_MAIL", smtp.url().into()));
        of_worker.push(("HEADWATER_QUERY_URL", queries.url.clone().into()));
        let worker = Instance::task_worker_with(&place, path("worker.log"), of_worker).await;
        Self { collector, place, commands, queries, others: vec![projector, worker], smtp, folder }
    }

    /// Registers at the instance that writes, or at the one that forwards.
    async fn register(&self, instance: usize, client: &Client, email: &str, username: &str) -> u64 {
        let account = json!({"email": email, "username": username});
        self.send(instance, client, "/accounts/register", account).await["position"].as_u64().unwrap()
    }

    async fn send(&self, instance: usize, client: &Client, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.commands[instance].url);
        let request = reqwest::Client::new().post(url).header("traceparent", client.traceparent());
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json().await.unwrap()
    }

    async fn query(&self, client: &Client, path: &str, position: u64) {
        let request = reqwest::Client::new().get(format!("{}{path}", self.queries.url));
        let request = request.header("traceparent", client.traceparent()).header("Min-Position", position);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    /// Waits for spans of these names in the trace, and gives the first of each.
    async fn spans<const N: usize>(&self, trace: &str, names: [&str; N]) -> [Span; N] {
        let find = |spans: &[Span], name: &str| spans.iter().find(|span| span.of.name == name).cloned();
        until(&format!("the trace has {names:?}"), async || {
            let spans = self.collector.trace(trace);
            names.iter().all(|name| find(&spans, name).is_some())
        })
        .await;
        let spans = self.collector.trace(trace);
        names.map(|name| find(&spans, name).unwrap())
    }

    /// All that the services have written to their logs.
    fn lines(&self) -> String {
        let all = self.commands.iter().chain(&self.others).chain([&self.queries]);
        all.map(Instance::said).collect()
    }

    async fn stop(self) {
        for instance in self.commands.iter().chain(&self.others).chain([&self.queries]) {
            instance.stop().await;
        }
        drop(self.folder);
    }
}

#[track_caller]
fn follows(span: &Span, parent: &Span) {
    assert_eq!(span.parent(), parent.id(), "{} follows {}", span.of.name, parent.of.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_request_to_the_email() {
    let watched = Watched::start().await;
    let client = Client::new();
    let position = watched.register(1, &client, &format!("{PERSON}@example.org"), PERSON).await;
    let namespace = watched.place.namespace.clone();
    let [request, forwarded, decide, append, plan, attempt, email] = watched
        .spans(
            &client.trace,
            [
                "POST /{plural}/{command}",
                "request commands",
                "decide",
                &format!("append {namespace}.log.0"),
                "plan welcome-email",
                "attempt welcome-email",
                "send email",
            ],
        )
        .await;
    assert_eq!(request.parent(), client.span);
    for span in [&forwarded, &decide, &append, &plan] {
        follows(span, &request);
    }
    follows(&attempt, &plan);
    follows(&email, &attempt);
    let subject = format!("{namespace}.signals.accounts");
    let names = ["project accounts", &format!("signal {subject}"), &format!("invalidate {subject}")];
    let [project, signal, invalidate] = watched.spans(&client.trace, names).await;
    follows(&project, &request);
    follows(&signal, &project);
    follows(&invalidate, &signal);

    let of = |span: &Span, name| span.attribute(name).unwrap();
    assert_eq!(
        (of(&request, "http.route"), of(&request, "http.response.status_code")),
        ("/{plural}/{command}".to_owned(), "201".to_owned())
    );
    assert_eq!(
        (of(&append, "messaging.system"), of(&decide, "headwater.command")),
        ("nats".into(), "register".into())
    );
    assert_eq!(
        (of(&attempt, "headwater.outcome"), of(&email, "headwater.mail.way")),
        ("done".into(), "smtp".into())
    );
    let services: Vec<&str> =
        [&request, &project, &invalidate, &plan].map(|span| span.service.as_str()).into();
    assert_eq!(services, ["command-service", "projector", "query-service", "task-worker"]);

    // The batch is in a trace of its own, which leads to the request, and the request's leads there.
    let batches = || watched.collector.spans().into_iter().filter(|span| span.of.name == "project accounts");
    let batch = batches().find(|span| span.trace() != client.trace).unwrap();
    assert!(batch.links_to(&request) && project.links_to(&batch));
    let [commit] = watched.spans(&batch.trace(), ["UPSERT accounts"]).await;
    follows(&commit, &batch);
    assert_eq!(of(&commit, "db.system.name"), "postgresql");

    let frames = watched.place.log().await.follow(Default::default()).available().await.unwrap();
    let mut events = frames.iter().flat_map(|frame| &frame.events);
    let event = events.find(|event| event.position == position).unwrap();
    assert_eq!(event.traceparent, Some(format!("00-{}-{}-01", client.trace, request.id())));

    // Where an email goes may have to be looked up.
    let order = json!({"account_id": event.subject, "quantity": 1, "amount_cents": 1, "currency": "USD"});
    let client = Client::new();
    watched.send(0, &client, "/orders/place", order).await;
    let names = ["attempt order-confirmation", "GET /{view}/{key}", "send email"];
    let [attempt, lookup, email] = watched.spans(&client.trace, names).await;
    follows(&lookup, &attempt);
    follows(&email, &attempt);
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_traced_to_the_database_and_not_further_than_the_cache() {
    let watched = Watched::start().await;
    let untraced = Client { trace: Uuid::now_v7().simple().to_string(), span: "0".repeat(16) };
    let position = watched.register(0, &untraced, &format!("{PERSON}@example.org"), PERSON).await;
    let by_email = format!("/accounts?email={PERSON}@example.org&fields=username");
    let names = ["GET /{view}", "SELECT accounts"];
    let first = Client::new();
    watched.query(&first, &by_email, position).await;
    let [request, read] = watched.spans(&first.trace, names).await;
    follows(&read, &request);
    let second = Client::new();
    watched.query(&second, &by_email, position).await;
    let [request] = watched.spans(&second.trace, ["GET /{view}"]).await;
    assert_eq!(request.attribute("headwater.cache").as_deref(), Some("hit"));
    assert_eq!(watched.collector.trace(&second.trace).len(), 1);
    // A context that is not valid is none, and this service begins no traces by itself here.
    assert!(!watched.collector.spans().iter().any(|span| span.of.name.starts_with("POST ")));

    until("measures have come", async || {
        let has = |service, name| watched.collector.has_metric(service, name);
        has("query-service", "http.server.request.duration") && has("command-service", "headwater_commands")
    })
    .await;
    let metrics =
        reqwest::get(format!("{}/metrics", watched.queries.url)).await.unwrap().text().await.unwrap();
    let counted = r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/{view}",url_scheme="http"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(!watched.collector.text().contains(PERSON) && !watched.lines().contains(PERSON));
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_share_a_frame_share_its_span() {
    let watched = Watched::start().await;
    let clients: Vec<Client> = std::iter::repeat_with(Client::new).take(64).collect();
    let watched = &watched;
    let registering = clients.iter().enumerate().map(|(number, client)| async move {
        watched
            .register(0, client, &format!("{PERSON}-{number}@example.org"), &format!("user-{number}"))
            .await;
    });
    stream::iter(registering).buffer_unordered(64).collect::<Vec<()>>().await;
    let ours: BTreeSet<&str> = clients.iter().map(|client| client.trace.as_str()).collect();
    until("an append leads to the other commands of its frame", async || {
        let spans = watched.collector.spans();
        let requests: Vec<&Span> = spans.iter().filter(|span| span.of.name.starts_with("POST ")).collect();
        let appends = spans.iter().filter(|span| span.of.name.starts_with("append "));
        let mut shared = appends.filter(|append| !append.of.links.is_empty());
        shared.any(|append| {
            assert!(ours.contains(append.trace().as_str()));
            requests.iter().filter(|request| append.links_to(request)).count() == append.of.links.len()
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_within_a_trace_says_so_and_none_names_a_person() {
    let watched = Watched::start().await;
    let client = Client::new();
    // The mail server refuses it, and repeats the address.
    watched.register(0, &client, &format!("named-{PERSON}@example.org"), PERSON).await;
    let [attempt, email] = watched.spans(&client.trace, ["attempt welcome-email", "send email"]).await;
    assert_eq!(attempt.attribute("headwater.outcome").as_deref(), Some("dead"));
    assert_eq!(email.attribute("error.type").as_deref(), Some("refused"));
    until("the collector has the line", async || {
        watched.collector.lines_in(&client.trace).contains(&"task-worker".into())
    })
    .await;
    let lines = watched.lines();
    let line = lines.lines().find(|line| line.contains("a task is dead")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(client.trace), &json!(attempt.id())));
    assert!(lines.lines().any(|line| !line.contains("trace_id")), "a line outside of a trace says none");
    assert!(!watched.collector.text().contains(PERSON) && !lines.contains(PERSON));
    assert_eq!(watched.smtp.count(), 0);
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_is_said_once_and_costs_nothing() {
    // Whoever connects to this one waits: nobody accepts, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = stack::ports::next_free(0).unwrap();
    for port in [silent.local_addr().unwrap().port(), away] {
        let place = Place::new(Servers::shared().await).await;
        let folder = temporary_folder().unwrap();
        let mut settings = collector::settings(&format!("http://127.0.0.1:{port}"));
        settings.push(("OTEL_BSP_MAX_QUEUE_SIZE", "8".into()));
        settings.push(("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4".into()));
        let service = Instance::start_with(&place, &folder.path().join("state"), settings).await;
        for number in 0..50 {
            let body =
                json!({"email": format!("{number}@example.org"), "username": format!("user-{number}")});
            let url = format!("{}/accounts/register", service.url);
            let request = reqwest::Client::new().post(url).header("traceparent", Client::new().traceparent());
            let answer = request.json(&body).timeout(Duration::from_secs(2)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED);
        }
        let said = || service.said().matches("the collector takes no telemetry").count();
        until("it says that the collector is away", async || said() > 0).await;
        let began = Instant::now();
        service.stop().await;
        assert!(began.elapsed() < Duration::from_secs(5), "leaving took {:?}", began.elapsed());
        assert_eq!(said(), 1, "{}", service.said());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_at_the_start() {
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318", "has to be an http:// URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector", "is not a URL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "jaeger", "expected `otlp` or `none`"),
    ] {
        let mut command =
            tokio::process::Command::new(crate::harness::programs().await.join("query-service"));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318").env(name, value);
        command.env("DATABASE_URL", "postgres://127.0.0.1/none").kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await.unwrap().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(name) && error.contains(said), "{error}");
    }
}
