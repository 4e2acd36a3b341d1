//! What a service says of itself, whatever it does: that it is alive, whether it is ready, which version it is, and what
//! it has measured.

use axum::{Json, Router, extract::State, http::header, response::IntoResponse, routing::get};
use serde_json::{Value, json};

use crate::{
    Health,
    problem::{Problem, kinds},
    telemetry,
};

const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";
pub const VERSION: &str = "/version";
pub const METRICS: &str = "/metrics";

/// What was built, where the build says so: mostly the commit.
const REVISION: Option<&str> = option_env!("HEADWATER_REVISION");

/// For everybody.
pub fn routes(name: &'static str, health: Health) -> Router {
    Router::new()
        .route(LIVE, get(|| async { "live\n" }))
        .route(READY, get(ready).with_state(health))
        .route(VERSION, get(async move || Json(version(name))))
}

/// For whoever watches the service.
pub fn metrics() -> Router {
    Router::new().route(METRICS, get(rendered))
}

pub fn is_one_of_these(path: &str) -> bool {
    matches!(path, LIVE | READY | VERSION | METRICS)
}

async fn ready(State(health): State<Health>) -> Result<Json<Value>, Problem> {
    let checks = health.checks();
    match health.failing() {
        failing if failing.is_empty() => Ok(Json(json!({ "status": "ready", "checks": checks }))),
        failing => {
            let problem = Problem::new(kinds::NOT_READY, failing.join("; ")).checks(checks);
            Err(problem.retry_after(1))
        }
    }
}

fn version(name: &str) -> Value {
    json!({ "name": name, "version": env!("CARGO_PKG_VERSION"), "revision": REVISION })
}

async fn rendered() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::render_metrics())
}
