//! Log lines on standard error, and OpenTelemetry metrics that Prometheus can scrape.

use std::sync::OnceLock;

use opentelemetry::{global, metrics::Meter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts log lines at `info`, or at what `RUST_LOG` says.
pub fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn,opentelemetry=warn"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written would be complained about on standard error, which is what cannot
        // be written to; that would panic, and take the task with it that had something to say.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// The meter for a service's instruments. Names carry the prefix `headwater_`.
pub fn meter() -> Meter {
    registry();
    global::meter("headwater")
}

/// Everything measured so far, in Prometheus's text format.
pub fn render_metrics() -> String {
    TextEncoder::new().encode_to_string(&registry().gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "metrics cannot be rendered");
        String::new()
    })
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .with_namespace("headwater")
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("a new registry takes its first collector");
        global::set_meter_provider(SdkMeterProvider::builder().with_reader(exporter).build());
        registry
    })
}
