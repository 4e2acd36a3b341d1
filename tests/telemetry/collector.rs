//! An OpenTelemetry collector that keeps what it is sent: OTLP over HTTP, in protobuf.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    resource::v1::Resource,
    trace::v1,
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::instance::Settings;

/// Ends when it is dropped.
pub struct Collector {
    url: String,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    logs: Vec<(String, LogRecord)>,
    /// The names of metrics, with that of the service.
    metrics: Vec<(String, String)>,
    /// Everything as text.
    text: String,
}

/// A span with the name of the service that it is of.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub of: v1::Span,
}

impl Span {
    pub fn trace(&self) -> String {
        hex(&self.of.trace_id)
    }

    pub fn id(&self) -> String {
        hex(&self.of.span_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.of.parent_span_id)
    }

    /// An attribute as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        text_of(&self.of.attributes, name)
    }

    pub fn links_to(&self, other: &Self) -> bool {
        self.of
            .links
            .iter()
            .any(|link| hex(&link.span_id) == other.id() && hex(&link.trace_id) == other.trace())
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let kept = Arc::<Mutex<Kept>>::default();
        let routes = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .with_state(kept.clone());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, kept, task }
    }

    /// Lets a service send everything here, soon, and trace what its clients trace.
    pub fn settings(&self) -> Settings {
        settings(&self.url)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap().spans.clone()
    }

    pub fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace() == id).collect()
    }

    /// Which service has written a line within the trace.
    pub fn lines_in(&self, trace: &str) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        let lines = kept.logs.iter().filter(|(_, line)| hex(&line.trace_id) == trace);
        lines.map(|(service, _)| service.clone()).collect()
    }

    pub fn has_metric(&self, service: &str, name: &str) -> bool {
        self.kept.lock().unwrap().metrics.iter().any(|metric| metric.0 == service && metric.1 == name)
    }

    pub fn text(&self) -> String {
        self.kept.lock().unwrap().text.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn settings(url: &str) -> Settings {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.into()),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off".into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "100".into()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".into()),
        ("HEADWATER_LOG_FORMAT", "json".into()),
    ]
}

async fn traces(State(kept): State<Arc<Mutex<Kept>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut kept = kept.lock().unwrap();
    kept.text += &format!("{request:?}\n");
    for of_one in request.resource_spans {
        let service = service(of_one.resource);
        let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.spans.extend(spans.map(|of| Span { service: service.clone(), of }));
    }
}

async fn metrics(State(kept): State<Arc<Mutex<Kept>>>, body: Bytes) {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let mut kept = kept.lock().unwrap();
    kept.text += &format!("{request:?}\n");
    for of_one in request.resource_metrics {
        let service = service(of_one.resource);
        let metrics = of_one.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
        kept.metrics.extend(metrics.map(|metric| (service.clone(), metric.name)));
    }
}

async fn logs(State(kept): State<Arc<Mutex<Kept>>>, body: Bytes) {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let mut kept = kept.lock().unwrap();
    kept.text += &format!("{request:?}\n");
    for of_one in request.resource_logs {
        let service = service(of_one.resource);
        let records = of_one.scope_logs.into_iter().flat_map(|scope| scope.log_records);
        kept.logs.extend(records.map(|record| (service.clone(), record)));
    }
}

fn service(resource: Option<Resource>) -> String {
    text_of(&resource.unwrap().attributes, "service.name").unwrap()
}

fn text_of(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = &attributes.iter().find(|attribute| attribute.key == name)?.value;
    match value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
