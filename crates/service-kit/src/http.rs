//! The HTTP frame around a service's own routes: health, version, metrics, problem pages, and problems for
//! everything that no handler sees (unknown paths, wrong methods, panics). What a client may take of the
//! service is bounded by [`HttpArgs`].

mod limits;
mod server;

mod about;
mod clients;
mod connection;
mod lateness;
mod observed;
mod open_files;
mod pace;
mod refusal;
mod stall;
mod stream;
mod tls;
mod turn;

use std::{any::Any, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use about::METRICS;
use clients::Clients;
use lateness::Lateness;
pub use limits::HttpArgs;
use observed::Observed;
use pace::Pace;
use tls::Tls;

use crate::{
    Health, Shutdown,
    auth::Auth,
    load::Load,
    openapi,
    problem::{self, Problem, kinds},
};

/// Listens at `address`, with an error that names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}

const HEALTH: &str = "/health/";
const PROBLEMS: &str = "/problems/";
/// Those who watch a service are few.
const ADMIN_CONNECTIONS_MAX: usize = 100;

/// What a service puts into the frame.
pub struct Service {
    pub name: &'static str,
    pub routes: Router,
    pub health: Health,
    /// Measures the requests for `routes`, if the service says its load.
    pub load: Option<Load>,
    /// Tells `routes` who asks; see [`crate::auth::Caller`].
    pub auth: Auth,
    /// Where those who watch it ask, if not where its clients do.
    pub admin: Option<SocketAddr>,
}

/// Serves `service` inside the frame until `shutdown`, then finishes the requests that are under way. Once its
/// health is that of a service that leaves, each connection ends with its answer.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    limits: &HttpArgs,
    shutdown: Shutdown,
) -> io::Result<()> {
    let Service { name, routes, health, load, auth, admin } = service;
    let about = about::routes(name, health.clone());
    let tls = Tls::start(&limits.tls, shutdown.clone()).map_err(io::Error::other)?;
    let observed = Observed::new(if tls.is_some() { "https" } else { "http" });
    let clients = Arc::new(Clients::new(limits));
    let pace = Arc::new(Pace::new(limits.http_refusals_per_second));
    let lateness = Arc::new(Lateness::default());
    let watched = lateness.clone();
    let _watching = AbortOnDropHandle::new(tokio::spawn(async move { watched.watch().await }));
    let framed = |routes: Router, load, auth| {
        let router = routes
            .route(&format!("{PROBLEMS}{{code}}"), get(problem_page))
            .fallback(unknown_route)
            .method_not_allowed_fallback(method_not_allowed)
            .layer((observed.clone(), CatchPanicLayer::custom(panicked)));
        let (health, clients) = (health.clone(), clients.clone());
        let (observed, pace, tls) = (observed.clone(), pace.clone(), tls.clone());
        let lateness = lateness.clone();
        server::Served { router, health, load, auth, clients, observed, lateness, pace, tls }
    };
    let Some(address) = admin else {
        let routes = routes.merge(about).merge(about::metrics());
        return server::serve(listener, framed(routes, load, auth), limits, shutdown).await;
    };
    let wrong = |error| io::Error::other(format!("--admin-address: {error}"));
    let admin_auth = auth.at(address).map_err(wrong)?;
    let admin = bind(address).await.map_err(wrong)?;
    tracing::info!(address = %admin.local_addr()?, "serving those who watch");
    let watched = framed(about.clone().merge(about::metrics()), None, admin_auth);
    let few = HttpArgs { http_connections_max: ADMIN_CONNECTIONS_MAX, ..limits.clone() };
    // The other one knows how many files may be open, so it comes last.
    let watching = server::serve(admin, watched, &few, shutdown.clone());
    let serving = server::serve(listener, framed(routes.merge(about), load, auth), limits, shutdown);
    tokio::try_join!(watching, serving)?;
    Ok(())
}

/// Whether the frame answers this by itself, whatever the service is.
fn is_the_frames(path: &str) -> bool {
    about::is_one_of_these(path) || path.starts_with(PROBLEMS)
}

/// Whether this is answered however much the client has sent: who looks after a service looks often.
fn is_unlimited(path: &str) -> bool {
    is_the_frames(path) || path.starts_with(HEALTH)
}

/// Whether no token is asked for here, because nothing is told that is not in the source: how the service is, which
/// version it is, what a problem means, what may be asked.
pub(crate) fn is_for_everybody(path: &str) -> bool {
    path.starts_with(HEALTH)
        || path.starts_with(PROBLEMS)
        || path == about::VERSION
        || openapi::is_a_page(path)
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
