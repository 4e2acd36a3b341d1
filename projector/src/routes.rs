//! What the projector serves beside health and metrics: how the views are, and their quarantine.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use service_kit::{Problem, auth::Caller, problem::Kind};
use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::sync::Semaphore;

use crate::{
    quarantine::{self, Entry, Outcome, QuarantineError, Request},
    status::{Status, ViewReport},
    view::connect,
};

const NOT_IN_QUARANTINE: Kind = Kind::new(404, "not-in-quarantine", "This key is not in quarantine");
const REASON_REQUIRED: Kind = Kind::new(400, "reason-required", "This takes a reason");
const VIEWS_DATABASE_UNAVAILABLE: Kind =
    Kind::new(503, "views-unavailable", "The views cannot be read at the moment");
const OVERLOADED: Kind = service_kit::problem::kinds::OVERLOADED;

/// What a scope names: `quarantine:skip`.
const VIEWS: &str = "views";
const QUARANTINE: &str = "quarantine";
const READ: &str = "read";

/// A person waits so long to hear what came of a request; it is done even so.
const PATIENCE: Duration = Duration::from_secs(10);
/// People ask here, not programs.
const REQUESTS_MAX: usize = 4;

#[derive(Clone)]
struct Admin {
    status: Arc<Status>,
    options: PgConnectOptions,
    places: Arc<Semaphore>,
}

pub fn routes(status: Arc<Status>, options: PgConnectOptions) -> Router {
    let admin = Admin { status, options, places: Arc::new(Semaphore::new(REQUESTS_MAX)) };
    Router::new()
        .route("/views", get(views))
        .route("/quarantine", get(list))
        .route("/quarantine/{view}/{key}/retry", post(retry))
        .route("/quarantine/{view}/{key}/skip", post(skip))
        .with_state(admin)
}

async fn views(State(admin): State<Admin>, caller: Caller) -> Result<Json<Vec<ViewReport>>, Problem> {
    caller.demand(VIEWS, READ)?;
    Ok(Json(admin.status.report()))
}

#[derive(Deserialize)]
struct Filter {
    view: Option<String>,
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<Entry>>, Problem> {
    caller.demand(QUARANTINE, READ)?;
    let _place = admin.place()?;
    let mut connection = admin.connect().await?;
    let entries = quarantine::list(&mut connection, filter.view.as_deref()).await;
    entries.map(Json).map_err(unavailable)
}

async fn retry(
    State(admin): State<Admin>,
    caller: Caller,
    Path((view, key)): Path<(String, String)>,
) -> Result<Response, Problem> {
    caller.demand(QUARANTINE, "retry")?;
    admin.request(&view, &key, Request::Retry).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    reason: String,
}

async fn skip(
    State(admin): State<Admin>,
    caller: Caller,
    Path((view, key)): Path<(String, String)>,
    skip: Result<Json<Skip>, JsonRejection>,
) -> Result<Response, Problem> {
    caller.demand(QUARANTINE, "skip")?;
    let Json(Skip { reason }) = skip.map_err(|error| {
        let detail = format!("Send {{\"reason\": \"…\"}} as application/json: {}.", error.body_text());
        Problem::new(REASON_REQUIRED, detail).field("reason")
    })?;
    admin.request(&view, &key, Request::Skip { reason }).await
}

impl Admin {
    fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
        let detail = format!("{REQUESTS_MAX} such requests are under way.");
        self.places.try_acquire().map_err(|_| Problem::new(OVERLOADED, detail).retry_after(1))
    }

    async fn connect(&self) -> Result<PgConnection, Problem> {
        connect(&self.options, "admin").await.map_err(unavailable)
    }

    /// 200 with what came of it, or 202 if that takes longer.
    async fn request(&self, view: &str, key: &str, request: Request) -> Result<Response, Problem> {
        let _place = self.place()?;
        let mut connection = self.connect().await?;
        let build = quarantine::request(&mut connection, view, key, &request).await.map_err(problem)?;
        let outcome = quarantine::outcome(&mut connection, view, key, build, PATIENCE).await;
        let outcome = outcome.map_err(unavailable)?;
        let status = if outcome == Outcome::Pending { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok((status, Json(outcome)).into_response())
    }
}

fn problem(error: QuarantineError) -> Problem {
    match error {
        QuarantineError::NoSuchKey { .. } => Problem::new(NOT_IN_QUARANTINE, sentence(&error)),
        QuarantineError::Reason => Problem::new(REASON_REQUIRED, sentence(&error)).field("reason"),
        QuarantineError::Database(error) => unavailable(error),
    }
}

fn sentence(error: &QuarantineError) -> String {
    let error = error.to_string();
    let mut letters = error.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    format!("{}{}.", first.collect::<String>(), letters.as_str())
}

fn unavailable(error: impl std::fmt::Display) -> Problem {
    tracing::warn!(%error, "the database of the views cannot be asked");
    Problem::new(VIEWS_DATABASE_UNAVAILABLE, "The database of the views cannot be reached.").retry_after(1)
}
