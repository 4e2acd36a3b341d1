//! What the task-worker serves beside health and metrics: how the tasks are, and the dead letters.

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use service_kit::{Problem, auth::Caller, problem::Kind};

use crate::{
    letters::{LIST_MAX, Letter, Letters, List, REASON_CHARS_MAX},
    monitor::Monitor,
    queue::{QueueError, TaskId},
    status::Report,
};

const NO_DEAD_LETTER: Kind = Kind::new(404, "no-dead-letter", "There is no such dead letter");
const REASON_REQUIRED: Kind = Kind::new(400, "reason-required", "This takes a reason");
const TASKS_UNAVAILABLE: Kind =
    Kind::new(503, "tasks-unavailable", "The tasks cannot be reached at the moment");

pub fn routes(monitor: Monitor, letters: Letters) -> Router {
    let tasks = Router::new().route("/tasks", get(tasks)).with_state(monitor);
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", get(read))
        .route("/dead-letters/{id}/retry", post(retry))
        .route("/dead-letters/{id}/discard", post(discard))
        .with_state(letters)
        .merge(tasks)
}

/// What a scope names: `dead-letters:retry`.
const TASKS: &str = "tasks";
const DEAD_LETTERS: &str = "dead-letters";
const READ: &str = "read";

async fn tasks(State(monitor): State<Monitor>, caller: Caller) -> Result<Json<Report>, Problem> {
    caller.demand(TASKS, READ)?;
    monitor.look().await;
    Ok(Json(monitor.status.report()))
}

#[derive(Deserialize)]
struct Filter {
    policy: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(letters): State<Letters>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<List>, Problem> {
    caller.demand(DEAD_LETTERS, READ)?;
    let list = letters.list(filter.policy.as_deref(), filter.limit.unwrap_or(LIST_MAX)).await;
    list.map(Json).map_err(unavailable)
}

async fn read(
    State(letters): State<Letters>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Letter>, Problem> {
    caller.demand(DEAD_LETTERS, READ)?;
    let id = parse(&id)?;
    let letter = letters.read(&id).await.map_err(unavailable)?;
    letter.map(Json).ok_or_else(|| missing(&id))
}

/// 202: it will be tried again, when the services have time.
async fn retry(
    State(letters): State<Letters>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.demand(DEAD_LETTERS, "retry")?;
    let id = parse(&id)?;
    match letters.send_again(&id).await.map_err(unavailable)? {
        true => Ok(StatusCode::ACCEPTED),
        false => Err(missing(&id)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discard {
    reason: String,
}

async fn discard(
    State(letters): State<Letters>,
    caller: Caller,
    Path(id): Path<String>,
    discard: Result<Json<Discard>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    caller.demand(DEAD_LETTERS, "discard")?;
    let id = parse(&id)?;
    let Json(Discard { reason }) = discard.map_err(|error| {
        let detail = format!("Send {{\"reason\": \"…\"}} as application/json: {}.", error.body_text());
        Problem::new(REASON_REQUIRED, detail).field("reason")
    })?;
    let length = reason.trim().chars().count();
    if length == 0 || length > REASON_CHARS_MAX {
        let detail = format!("The reason has {length} characters; expected 1 to {REASON_CHARS_MAX}.");
        return Err(Problem::new(REASON_REQUIRED, detail).field("reason"));
    }
    match letters.discard(&id, reason.trim()).await.map_err(unavailable)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(missing(&id)),
    }
}

fn parse(id: &str) -> Result<TaskId, Problem> {
    id.parse().map_err(|error| Problem::new(NO_DEAD_LETTER, format!("`{id}` is {error}.")))
}

fn missing(id: &TaskId) -> Problem {
    Problem::new(
        NO_DEAD_LETTER,
        format!("{id} is not dead: it may have been done, sent again, or discarded."),
    )
}

fn unavailable(error: QueueError) -> Problem {
    tracing::warn!(%error, "the tasks cannot be reached");
    Problem::new(TASKS_UNAVAILABLE, "The queue of tasks does not answer.").retry_after(1)
}
