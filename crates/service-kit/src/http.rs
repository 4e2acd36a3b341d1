//! The HTTP frame around a service's own routes: health, metrics, problem pages, and problems for
//! everything that no handler sees (unknown paths, wrong methods, panics). What a client may take of the
//! service is bounded by [`HttpLimits`].

mod limits;
mod server;

mod clients;
mod connection;
mod open_files;
mod refusal;
mod stall;
mod stream;
mod turn;

use std::{any::Any, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use clients::Clients;
pub use limits::HttpLimits;

use crate::{
    Health, Shutdown,
    auth::Auth,
    load::Load,
    openapi,
    problem::{self, Problem, kinds},
    telemetry,
};

/// Listens at `address`, with an error that names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}

const HEALTH: &str = "/health/";
const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";
pub(crate) const METRICS: &str = "/metrics";
const PROBLEMS: &str = "/problems/";

/// What a service puts into the frame.
pub struct Service {
    pub routes: Router,
    pub health: Health,
    /// Measures the requests for `routes`, if the service says its load.
    pub load: Option<Load>,
    /// Tells `routes` who asks; see [`crate::auth::Caller`].
    pub auth: Auth,
}

/// Serves `service` inside the frame until `shutdown`, then finishes the requests that are under way. Once its
/// health is that of a service that leaves, each connection ends with its answer.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    limits: &HttpLimits,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let Service { routes, health, load, auth } = service;
    let router = routes
        .route(LIVE, get(|| async { "live\n" }))
        .route(READY, get(ready).with_state(health.clone()))
        .route(METRICS, get(metrics))
        .route(&format!("{PROBLEMS}{{code}}"), get(problem_page))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked));
    let clients = Arc::new(Clients::new(limits));
    let served = server::Served { router, health, load, auth, clients };
    server::serve(listener, served, limits, shutdown).await
}

/// Whether the frame answers this by itself, whatever the service is.
fn is_the_frames(path: &str) -> bool {
    matches!(path, LIVE | READY | METRICS) || path.starts_with(PROBLEMS)
}

/// Whether this is answered however much the client has sent: who looks after a service looks often.
fn is_unlimited(path: &str) -> bool {
    is_the_frames(path) || path.starts_with(HEALTH)
}

/// Whether no token is asked for here, because nothing is told that is not in the source: how the service is, what a
/// problem means, what may be asked.
pub(crate) fn is_for_everybody(path: &str) -> bool {
    path.starts_with(HEALTH) || path.starts_with(PROBLEMS) || openapi::is_a_page(path)
}

async fn ready(State(health): State<Health>) -> Result<&'static str, Problem> {
    match health.failing() {
        failing if failing.is_empty() => Ok("ready\n"),
        failing => Err(Problem::new(kinds::NOT_READY, failing.join("; ")).retry_after(1)),
    }
}

async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::render_metrics())
}

async fn problem_page(Path(code): Path<String>) -> Result<impl IntoResponse, Problem> {
    let page = problem::page(&code).ok_or_else(|| {
        Problem::new(kinds::UNKNOWN_ROUTE, format!("There is no problem with the code `{code}`."))
    })?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/markdown; charset=utf-8"))], page))
}

async fn unknown_route(request: Request) -> Problem {
    Problem::new(kinds::UNKNOWN_ROUTE, format!("Nothing is served at `{}`.", request.uri().path()))
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("`{}` does not take {}.", request.uri().path(), request.method());
    Problem::new(kinds::METHOD_NOT_ALLOWED, detail)
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Problem::internal(format_args!("panic: {message}")).into_response()
}
