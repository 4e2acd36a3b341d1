//! The HTTP frame around a service's own routes: health, metrics, problem pages, and problems for
//! everything that no handler sees (unknown paths, wrong methods, panics).

use std::{any::Any, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    Health, Shutdown,
    problem::{self, Problem, kinds},
    telemetry,
};

/// After `shutdown`, requests under way get this long to finish; a client that never sends the end of its
/// request must not keep the service from leaving.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);

/// Listens at `address`, with an error that names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}

/// Serves `routes` inside the frame until `shutdown`, then finishes the requests that are under way.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    health: Health,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let router = routes
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready).with_state(health))
        .route("/metrics", get(metrics))
        .route("/problems/{code}", get(problem_page))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked));
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = too_late => {
            tracing::warn!("leaving before all requests had ended");
            Ok(())
        }
    }
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
