//! What the environment asks for, in OpenTelemetry's own variables, most of which its library reads by itself.

use std::env;

use anyhow::{Context as _, bail};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    trace::{Config, Sampler, SdkTracerProvider},
};
use url::Url;
use uuid::Uuid;

use super::collector::Collector;
use crate::trace::WithLinked;

/// Of so many requests that begin a trace here one is traced, unless `OTEL_TRACES_SAMPLER` says otherwise: enough to
/// see what is slow, and too few to be felt.
const TRACED_RATIO: f64 = 0.01;

pub struct Settings {
    resource: Resource,
    collector: Collector,
    /// Host and port of the collector.
    traces: Option<String>,
    metrics: Option<String>,
    logs: Option<String>,
}

/// Where measures go, and of whom they are.
pub struct Metrics {
    pub exporter: MetricExporter,
    pub resource: Resource,
}

impl Settings {
    pub fn from_env(service: &'static str) -> anyhow::Result<Self> {
        let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let endpoint = |signal: &str| if is_disabled { Ok(None) } else { endpoint(signal) };
        Ok(Self {
            resource: resource(service),
            collector: Collector::new(),
            traces: endpoint("TRACES")?,
            metrics: endpoint("METRICS")?,
            logs: endpoint("LOGS")?,
        })
    }

    pub fn traces(&self) -> anyhow::Result<Option<SdkTracerProvider>> {
        if self.traces.is_none() {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter =
            exporter.with_http_client(self.collector.clone()).with_retry_policy(RetryPolicy::disabled());
        let sampler = match variable("OTEL_TRACES_SAMPLER") {
            Some(_) => Config::default().sampler,
            None => Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(TRACED_RATIO))).into(),
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(self.resource.clone())
            .with_sampler(WithLinked(sampler))
            .with_batch_exporter(exporter.build().context("OTEL_EXPORTER_OTLP_TRACES_*")?);
        Ok(Some(provider.build()))
    }

    pub fn metrics(&self) -> anyhow::Result<Option<Metrics>> {
        if self.metrics.is_none() {
            return Ok(None);
        }
        let exporter = MetricExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter =
            exporter.with_http_client(self.collector.clone()).with_retry_policy(RetryPolicy::disabled());
        let exporter = exporter.build().context("OTEL_EXPORTER_OTLP_METRICS_*")?;
        Ok(Some(Metrics { exporter, resource: self.resource.clone() }))
    }

    pub fn logs(&self) -> anyhow::Result<Option<SdkLoggerProvider>> {
        if self.logs.is_none() {
            return Ok(None);
        }
        let exporter = LogExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter =
            exporter.with_http_client(self.collector.clone()).with_retry_policy(RetryPolicy::disabled());
        let exporter = exporter.build().context("OTEL_EXPORTER_OTLP_LOGS_*")?;
        let provider = SdkLoggerProvider::builder().with_resource(self.resource.clone());
        Ok(Some(provider.with_batch_exporter(exporter).build()))
    }

    /// Says what is on.
    pub fn say(&self) {
        for (signal, endpoint) in [("traces", &self.traces), ("metrics", &self.metrics), ("logs", &self.logs)]
        {
            if let Some(endpoint) = endpoint {
                tracing::info!(signal, collector = endpoint, "telemetry is sent");
            }
        }
    }
}

/// A variable that is empty is as good as none.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// Where one signal goes; nowhere, unless a variable says where.
fn endpoint(signal: &str) -> anyhow::Result<Option<String>> {
    let exporter = format!("OTEL_{signal}_EXPORTER");
    match variable(&exporter).as_deref() {
        Some("none") => return Ok(None),
        Some("otlp") | None => {}
        Some(other) => bail!("{exporter}={other} is not known here; expected `otlp` or `none`"),
    }
    let named =
        |what: &str| [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
    let Some((url, name)) = first_of(named("ENDPOINT")) else { return Ok(None) };
    if let Some((protocol, name)) = first_of(named("PROTOCOL"))
        && protocol != "http/protobuf"
    {
        bail!(
            "{name}={protocol} is not spoken here; set it to `http/protobuf`, at the collector's port 4318"
        );
    }
    let url = Url::parse(&url)
        .with_context(|| format!("{name} is not a URL; expected like http://127.0.0.1:4318"))?;
    let (Some(host), "http") = (url.host_str(), url.scheme()) else {
        bail!(
            "{name} has to be an http:// URL, of a collector nearby; what is far away is reached by it, with TLS"
        );
    };
    // Without what else may be in a URL, such as a password.
    Ok(Some(format!("{host}:{}", url.port_or_known_default().unwrap_or_default())))
}

/// The first of the variables that says something, and which it was.
fn first_of(names: [String; 2]) -> Option<(String, String)> {
    names.into_iter().find_map(|name| Some((variable(&name)?, name)))
}

/// Who speaks: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and what they leave out.
fn resource(service: &'static str) -> Resource {
    let ours = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ];
    let theirs = Resource::builder().build();
    let is_said = |key: &opentelemetry::Key| {
        theirs.get(key).is_some_and(|value| !value.as_str().starts_with("unknown_service"))
    };
    let missing: Vec<KeyValue> = ours.into_iter().filter(|pair| !is_said(&pair.key)).collect();
    Resource::builder().with_attributes(missing).build()
}
