//! Spans of those requests that are traced, and of all that follows from them. Where nothing is sent to a collector,
//! and for a request that is not traced, there is no span, and nobody makes one.
//!
//! Whether a request is traced is decided where it comes in. What follows from it, in whichever service, keeps to that:
//! the context travels as a W3C `traceparent`, in events, tasks and headers of messages.

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, ContextGuard,
    propagation::{Extractor, TextMapPropagator},
    trace::{Link, Span as _, SpanBuilder, Status, TraceContextExt, TraceId, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample},
};

pub use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind},
};

/// The header, of requests and messages.
pub const TRACEPARENT: &str = "traceparent";
/// Of what is done together, be it a frame, a batch, or a plan, so much gets spans of its own; the rest would tell
/// nothing more.
pub const SPANS_TOGETHER_MAX: usize = 16;
/// What happened longer ago belongs to a trace that is over: whoever folds a long log again does not tell it once more.
const AGE_MAX: Duration = Duration::from_secs(3_600);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// From now on there are spans.
pub(crate) fn begin(provider: &SdkTracerProvider) {
    // A second call would change nothing.
    let _ = TRACER.set(provider.tracer("headwater"));
}

/// Whether there may be spans at all.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span, which ends when this is dropped.
pub struct Span(Context);

impl Span {
    /// For a request that may begin a trace, or go on with its client's; none if it is not traced.
    pub fn of_request(method: &'static str, parent: Option<SpanContext>) -> Option<Self> {
        let parent =
            parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        Self::started(SpanBuilder::from_name(method).with_kind(SpanKind::Server), &parent)
    }

    /// For what follows from something traced.
    pub fn after(parent: &SpanContext, kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Option<Self> {
        Self::after_from(parent, kind, name, SystemTime::now())
    }

    /// The same for what has begun already.
    pub fn after_from(
        parent: &SpanContext,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        began: SystemTime,
    ) -> Option<Self> {
        let parent = Context::new().with_remote_span_context(parent.clone());
        Self::started(SpanBuilder::from_name(name).with_kind(kind).with_start_time(began), &parent)
    }

    /// For what is done within what is under way.
    pub fn within_current(kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Option<Self> {
        let parent = current_context()?;
        Self::started(SpanBuilder::from_name(name).with_kind(kind), &parent)
    }

    /// For what is done for several traces at once, in a trace of its own that leads to them.
    pub fn for_all(
        traced: &[SpanContext],
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        began: SystemTime,
    ) -> Option<Self> {
        if traced.is_empty() {
            return None;
        }
        let links = traced.iter().map(|context| Link::new(context.clone(), Vec::new(), 0)).collect();
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(began).with_links(links);
        Self::started(builder, &Context::new())
    }

    fn started(builder: SpanBuilder, parent: &Context) -> Option<Self> {
        let span = TRACER.get()?.build_with_context(builder, parent);
        span.is_recording().then(|| Self(Context::new().with_span(span)))
    }

    pub fn set(&self, key: impl Into<opentelemetry::Key>, value: impl Into<opentelemetry::Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// By the conventions for messaging; a destination of which there are many is named by what they have in common.
    pub fn messaging(
        &self,
        operation: &'static str,
        kind: &'static str,
        destination: impl Into<Cow<'static, str>>,
    ) {
        let destination: Cow<'static, str> = destination.into();
        let named = if destination.contains('{') {
            "messaging.destination.template"
        } else {
            "messaging.destination.name"
        };
        self.set("messaging.system", "nats");
        self.set("messaging.operation.name", operation);
        self.set("messaging.operation.type", kind);
        self.set(named, destination);
    }

    /// By the conventions for databases.
    pub fn database(&self, operation: &'static str, collection: impl Into<Cow<'static, str>>) {
        let collection: Cow<'static, str> = collection.into();
        self.set("db.system.name", "postgresql");
        self.set("db.operation.name", operation);
        self.set("db.collection.name", collection);
    }

    pub fn rename(&self, name: String) {
        self.0.span().update_name(name);
    }

    /// This has to do with another trace.
    pub fn link(&self, other: &SpanContext) {
        self.0.span().add_link(other.clone(), Vec::new());
    }

    /// What it was for has failed. `kind` is one of few words, and no text that may hold what is personal.
    pub fn failed(&self, kind: impl Into<Cow<'static, str>>) {
        let kind: Cow<'static, str> = kind.into();
        self.set("error.type", kind);
        self.0.span().set_status(Status::error(""));
    }

    pub fn context(&self) -> SpanContext {
        self.0.span().span_context().clone()
    }

    /// As it travels.
    pub fn traceparent(&self) -> String {
        traceparent(self.0.span().span_context())
    }

    /// What is written and begun until the guard is dropped is within it.
    pub fn enter(&self) -> ContextGuard {
        self.0.clone().attach()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Others may still have its context.
        self.0.span().end();
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({})", self.traceparent())
    }
}

/// Does something within a span, if there is one.
pub async fn within<T>(span: Option<&Span>, doing: impl Future<Output = T>) -> T {
    let Some(span) = span else { return doing.await };
    let mut doing = pin!(doing);
    poll_fn(|context| {
        let _entered = span.enter();
        doing.as_mut().poll(context)
    })
    .await
}

/// What is done in another task belongs to what is under way in this one.
pub fn carried<T>(doing: impl Future<Output = T>) -> impl Future<Output = T> {
    let context = current_context();
    async move {
        let Some(context) = context else { return doing.await };
        let mut doing = pin!(doing);
        poll_fn(|polling| {
            let _entered = context.clone().attach();
            doing.as_mut().poll(polling)
        })
        .await
    }
}

fn current_context() -> Option<Context> {
    Context::map_current(|current| current.has_active_span().then(|| current.clone()))
}

/// The span that is under way here.
pub fn current() -> Option<SpanContext> {
    Context::map_current(|current| current.has_active_span().then(|| current.span().span_context().clone()))
}

/// Says something of the span that is under way here, if there is one.
pub fn say(key: &'static str, value: impl Into<opentelemetry::Value>) {
    Context::map_current(|current| {
        if current.has_active_span() {
            current.span().set_attribute(KeyValue::new(key, value));
        }
    });
}

/// As it travels.
pub fn traceparent(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
}

/// What a `traceparent` says; one that is not valid says nothing.
pub fn parse(traceparent: &str) -> Option<SpanContext> {
    struct One<'a>(&'a str);
    impl Extractor for One<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == TRACEPARENT).then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec![TRACEPARENT]
        }
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent));
    context.has_active_span().then(|| context.span().span_context().clone())
}

/// The context of something traced; none if it is not, or there are no spans.
pub fn sampled(traceparent: Option<&str>) -> Option<SpanContext> {
    if !is_on() {
        return None;
    }
    parse(traceparent?).filter(SpanContext::is_sampled)
}

/// The same of what happened at a time, in microseconds since 1970, unless that is long ago.
pub fn sampled_lately(traceparent: Option<&str>, time_micros: i64) -> Option<SpanContext> {
    let context = sampled(traceparent)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(time_micros.unsigned_abs());
    // What is to come, by another machine's clock, was not long ago.
    let age = SystemTime::now().duration_since(time).unwrap_or_default();
    (age <= AGE_MAX).then_some(context)
}

/// Traces what another sampler says, and what is done for several traces at once ([`Span::for_all`]): that was decided
/// with them.
#[derive(Clone, Debug)]
pub(crate) struct WithLinked(pub Box<dyn ShouldSample>);

impl ShouldSample for WithLinked {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if links.iter().any(|link| link.span_context.is_sampled()) {
            let decision = SamplingDecision::RecordAndSample;
            return SamplingResult { decision, attributes: Vec::new(), trace_state: Default::default() };
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_reads_back_as_it_was_written() {
        assert_eq!(traceparent(&parse(VALID).unwrap()), VALID);
        assert!(!parse(&VALID.replace("-01", "-00")).unwrap().is_sampled());
    }

    #[test]
    fn a_context_that_is_not_valid_says_nothing() {
        let no_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let no_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let version = VALID.replacen("00", "ff", 1);
        for text in
            ["", "00-xyz", no_trace, no_span, &version, &VALID.to_uppercase(), &format!("{VALID}-more")]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn without_a_collector_nothing_is_traced() {
        assert!(!is_on() && sampled(Some(VALID)).is_none());
        assert!(Span::of_request("GET", parse(VALID)).is_none());
        assert!(current().is_none());
    }
}
