//! The HTTP frame around a service's own routes: health, version, metrics, problem pages, and problems for
//! everything that no handler sees (unknown paths, wrong methods, panics). What a client may take of the
//! service is bounded by [`HttpLimits`].

mod limits;
mod server;

mod about;

mod connection;
mod observed;
mod open_files;
mod refusal;
mod stall;
mod stream;
mod turn;

use std::{any::Any, io, net::SocketAddr};

use axum::{
    Router,
    extract::{Path, Request},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

pub use limits::HttpLimits;

use observed::Observed;

use crate::{
    Health, Shutdown,
    load::Load,
    problem::{self, Problem, kinds},
};

/// Listens at `address`, with an error that names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}

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
    /// Where those who watch it ask, if not where its clients do.
    pub admin: Option<SocketAddr>,
}

/// Serves `service` inside the frame until `shutdown`, then finishes the requests that are under way. Once its
/// health is that of a service that leaves, each connection ends with its answer.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    limits: &HttpLimits,
    shutdown: Shutdown,
) -> io::Result<()> {
    let Service { name, routes, health, load, admin } = service;
    let about = about::routes(name, health.clone());
    let observed = Observed::new();
    let framed = |routes: Router, load| {
        let router = routes
            .route(&format!("{PROBLEMS}{{code}}"), get(problem_page))
            .fallback(unknown_route)
            .method_not_allowed_fallback(method_not_allowed)
            .layer((observed.clone(), CatchPanicLayer::custom(panicked)));
        server::Served { router, health: health.clone(), load, observed: observed.clone() }
    };
    let Some(address) = admin else {
        let routes = routes.merge(about).merge(about::metrics());
        return server::serve(listener, framed(routes, load), limits, shutdown).await;
    };
    let admin = bind(address).await.map_err(|error| io::Error::other(format!("--admin-address: {error}")))?;
    tracing::info!(address = %admin.local_addr()?, "serving those who watch");
    let watched = framed(about.clone().merge(about::metrics()), None);
    let few = HttpLimits { http_connections_max: ADMIN_CONNECTIONS_MAX, ..limits.clone() };
    // The other one knows how many files may be open, so it comes last.
    let watching = server::serve(admin, watched, &few, shutdown.clone());
    let serving = server::serve(listener, framed(routes.merge(about), load), limits, shutdown);
    tokio::try_join!(watching, serving)?;
    Ok(())
}

/// Whether the frame answers this by itself, whatever the service is.
fn is_the_frames(path: &str) -> bool {
    about::is_one_of_these(path) || path.starts_with(PROBLEMS)
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
