//! What is told of each request by OpenTelemetry's conventions for HTTP: how long its answer took to begin, by route,
//! method and status, and its span, if it is traced. A path may name a person, and a query mostly does, so neither is
//! told: only which route it was.

use std::{
    cell::Cell,
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, Method, request::Parts},
    response::Response,
};
use opentelemetry::metrics::{BoundHistogram, Histogram};
use tower::{Layer, Service};

use super::is_the_frames;
use crate::{
    problem::Kind,
    telemetry,
    trace::{self, KeyValue, Span, SpanContext},
};

/// The convention's own, and finer ones below, where most answers are; in seconds.
const DURATION_BOUNDARIES_S: [f64; 17] = [
    0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// More routes than any service has.
const ROUTES_MAX: usize = 256;

thread_local! {
    /// The route of the request that is being polled, as soon as it is known.
    static ROUTE: Cell<Option<u16>> = const { Cell::new(None) };
}

/// Tells of all requests of one service. Cheap to clone.
#[derive(Clone)]
pub struct Observed(Arc<Inner>);

struct Inner {
    scheme: &'static str,
    duration: Histogram<f64>,
    routes: RwLock<Vec<MatchedPath>>,
    outcomes: RwLock<HashMap<Outcome, BoundHistogram<f64>>>,
}

/// What times are told by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Outcome {
    route: Option<u16>,
    method: &'static str,
    status: u16,
    /// The code of the problem, where the service has failed.
    error: Option<&'static str>,
}

impl Observed {
    pub fn new(scheme: &'static str) -> Self {
        let duration = telemetry::meter()
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Time from a request's head to the beginning of its answer.")
            .with_boundaries(DURATION_BOUNDARIES_S.to_vec())
            .build();
        Self(Arc::new(Inner { scheme, duration, routes: RwLock::default(), outcomes: RwLock::default() }))
    }

    /// A request's head has come.
    pub fn begin(&self, head: &Parts) -> Under {
        let method = method(&head.method);
        let is_traceable = trace::is_on() && !is_for_watchers(head.uri.path());
        let span = is_traceable.then(|| Span::of_request(method, parent(&head.headers))).flatten();
        Under { began: Instant::now(), method, route: None, span }
    }

    /// Its answer begins.
    pub fn end(&self, under: Under, answer: &Response) {
        let Under { began, method, route, span } = under;
        let status = answer.status().as_u16();
        let kind = || answer.extensions().get::<Kind>().map_or("5xx", |kind| kind.code);
        let outcome = Outcome { route, method, status, error: (status >= 500).then(kind) };
        self.record(outcome, began.elapsed().as_secs_f64());
        let Some(span) = span else { return };
        if let Some(route) = route.and_then(|route| self.route(route)) {
            span.rename(format!("{method} {}", route.as_str()));
        }
        self.described(outcome).into_iter().for_each(|KeyValue { key, value, .. }| span.set(key, value));
        if let Some(error) = outcome.error {
            span.failed(error);
        }
    }

    fn record(&self, outcome: Outcome, seconds: f64) {
        let outcomes = self.0.outcomes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = outcomes.get(&outcome) {
            return bound.record(seconds);
        }
        drop(outcomes);
        let bound = self.0.duration.bind(&self.described(outcome));
        bound.record(seconds);
        self.0.outcomes.write().unwrap_or_else(PoisonError::into_inner).insert(outcome, bound);
    }

    fn described(&self, Outcome { route, method, status, error }: Outcome) -> Vec<KeyValue> {
        let route = route.and_then(|route| self.route(route));
        let known = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", self.0.scheme),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        let route = route.map(|route| KeyValue::new("http.route", route.as_str().to_owned()));
        known.into_iter().chain(route).chain(error.map(|error| KeyValue::new("error.type", error))).collect()
    }

    fn route(&self, number: u16) -> Option<MatchedPath> {
        self.0.routes.read().unwrap_or_else(PoisonError::into_inner).get(usize::from(number)).cloned()
    }

    /// The number of a route, which it gets when it is first asked for.
    fn number(&self, path: &MatchedPath) -> Option<u16> {
        let find = |routes: &[MatchedPath]| routes.iter().position(|route| route.as_str() == path.as_str());
        let known = find(&self.0.routes.read().unwrap_or_else(PoisonError::into_inner));
        let number = known.or_else(|| {
            let mut routes = self.0.routes.write().unwrap_or_else(PoisonError::into_inner);
            find(&routes).or_else(|| {
                (routes.len() < ROUTES_MAX).then(|| {
                    routes.push(path.clone());
                    routes.len() - 1
                })
            })
        })?;
        u16::try_from(number).ok()
    }
}

/// A request under way.
pub struct Under {
    began: Instant,
    method: &'static str,
    route: Option<u16>,
    span: Option<Span>,
}

impl Under {
    /// Answers it, within its span.
    pub async fn answering(&mut self, mut answering: Pin<&mut impl Future<Output = Response>>) -> Response {
        let Self { route, span, .. } = self;
        poll_fn(|context| {
            let _entered = span.as_ref().map(Span::enter);
            ROUTE.set(None);
            let polled = answering.as_mut().poll(context);
            *route = ROUTE.take().or(*route);
            polled
        })
        .await
    }
}

/// Those who ask all the time how the service is would fill the traces.
fn is_for_watchers(path: &str) -> bool {
    is_the_frames(path) || path.starts_with("/health/")
}

/// What the client says of its own span. A header that is there twice says nothing.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(trace::TRACEPARENT).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    trace::parse(value.to_str().ok()?)
}

/// Only these, because anybody may send any word.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

/// Around each route: notes which it is.
impl<S> Layer<S> for Observed {
    type Service = Routed<S>;

    fn layer(&self, inner: S) -> Routed<S> {
        Routed { observed: self.clone(), inner }
    }
}

#[derive(Clone)]
pub struct Routed<S> {
    observed: Observed,
    inner: S,
}

impl<S: Service<Request>> Service<Request> for Routed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> S::Future {
        ROUTE.set(request.extensions().get::<MatchedPath>().and_then(|path| self.observed.number(path)));
        self.inner.call(request)
    }
}
