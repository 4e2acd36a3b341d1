//! What a service says of itself: log lines on standard error, metrics that Prometheus can scrape, and, where there is
//! an OpenTelemetry collector, traces, metrics and log lines for it.

mod collector;
mod lines;
mod settings;

use std::{sync::OnceLock, time::Duration};

use anyhow::Context as _;
use opentelemetry::{global, metrics::Meter};
use opentelemetry_sdk::{
    logs::SdkLoggerProvider,
    metrics::{Instrument, SdkMeterProvider, Stream},
    trace::SdkTracerProvider,
};
use prometheus::{Registry, TextEncoder};
use tokio::{sync::oneshot, time::timeout};

pub use lines::start_logging;

use crate::{config::LogFormat, trace};
use settings::Settings;

/// What was measured last may take so long to reach the collector while the service ends.
const FINISH_TIME_MAX: Duration = Duration::from_secs(2);

/// What was started, and has to be finished at the end, or its last moments are lost.
#[must_use]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

/// Starts log lines, and all that the variables `OTEL_*` ask for. Called once, before anything is measured, within a
/// runtime that does the sending. Fails if a variable asks for what cannot be.
pub fn start(service: &'static str, format: LogFormat) -> anyhow::Result<Telemetry> {
    let settings = Settings::from_env(service).context("telemetry cannot be sent as the environment asks")?;
    let measures = METERS.set(Meters::new(settings.metrics()?));
    anyhow::ensure!(measures.is_ok(), "telemetry is started before anything is measured");
    let logs = settings.logs()?;
    lines::start(format, logs.as_ref());
    let traces = settings.traces()?;
    if let Some(traces) = &traces {
        trace::begin(traces);
    }
    settings.say();
    Ok(Telemetry { traces, logs })
}

impl Telemetry {
    /// Sends what is left, if that does not take too long.
    pub async fn finish(self) {
        let (done, finished) = oneshot::channel();
        // In a thread of its own, which waits and must not keep the runtime from ending.
        std::thread::spawn(move || {
            // Spans and lines of the service are over; its last measures go last.
            let _ = self.traces.map(|traces| traces.shutdown_with_timeout(FINISH_TIME_MAX));
            let _ = METERS.get().map(|meters| meters.provider.shutdown());
            let _ = self.logs.map(|logs| logs.shutdown_with_timeout(FINISH_TIME_MAX));
            let _ = done.send(());
        });
        if timeout(FINISH_TIME_MAX, finished).await.is_err() {
            tracing::warn!("what was measured last did not reach the collector in time");
        }
    }
}

/// The meter for a service's instruments. Names come out with the prefix `headwater_`, unless they are those of
/// OpenTelemetry's conventions, which have dots.
pub fn meter() -> Meter {
    METERS.get_or_init(|| Meters::new(None));
    global::meter("headwater")
}

/// Everything measured so far, in Prometheus's text format.
pub fn render_metrics() -> String {
    let meters = METERS.get_or_init(|| Meters::new(None));
    TextEncoder::new().encode_to_string(&meters.registry.gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "metrics cannot be rendered");
        String::new()
    })
}

static METERS: OnceLock<Meters> = OnceLock::new();

struct Meters {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Meters {
    /// Measures for whoever scrapes, and for a collector, if there is one.
    fn new(collected: Option<settings::Metrics>) -> Self {
        let registry = Registry::new();
        let scraped = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("a new registry takes its first collector");
        let mut provider = SdkMeterProvider::builder().with_reader(scraped).with_view(prefixed);
        if let Some(settings::Metrics { exporter, resource }) = collected {
            provider = provider.with_resource(resource).with_periodic_exporter(exporter);
        }
        let provider = provider.build();
        global::set_meter_provider(provider.clone());
        Self { registry, provider }
    }
}

fn prefixed(instrument: &Instrument) -> Option<Stream> {
    let name = instrument.name();
    if name.contains('.') {
        return None;
    }
    Stream::builder().with_name(format!("headwater_{name}")).build().ok()
}
