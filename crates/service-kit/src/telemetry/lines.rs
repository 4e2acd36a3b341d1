//! Log lines. Those that are written within a traced request say in which trace and span.

use std::fmt;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{config::LogFormat, trace};

/// Starts log lines at `info`, or at what `RUST_LOG` says.
pub fn start_logging(format: LogFormat) {
    start(format, None);
}

/// The same, for a collector too, if there is one.
pub(super) fn start(format: LogFormat, collected: Option<&SdkLoggerProvider>) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn,opentelemetry=warn"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // A line that cannot be written would be complained about on standard error, which is what cannot
        // be written to; that would panic, and take the task with it that had something to say.
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => {
            lines.event_format(InTrace(Format::default().json())).fmt_fields(JsonFields::new()).boxed()
        }
    };
    // What sending a line has to say would be the next line.
    let is_not_sending = |target: &str| !["hyper", "rustls"].iter().any(|sender| target.starts_with(sender));
    let collected = collected.map(|provider| {
        OpenTelemetryTracingBridge::new(provider)
            .with_filter(filter_fn(move |line| is_not_sending(line.target())))
    });
    tracing_subscriber::registry().with(filter).with(lines).with(collected).init();
}

/// A line in JSON, with `trace_id` and `span_id` where it belongs to a trace.
struct InTrace(Format<Json>);

impl<S, N> FormatEvent<S, N> for InTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<Json>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = trace::current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(members) => write!(
                writer,
                r#"{{"trace_id":"{}","span_id":"{}",{members}"#,
                span.trace_id(),
                span.span_id()
            ),
            None => writer.write_str(&line),
        }
    }
}
