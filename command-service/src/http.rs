//! Commands over HTTP: parse, submit, answer.

mod answer;
mod body;
mod headers;
mod imports;
mod openapi;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::Response,
    routing::{get, post},
};
use domain::{Command, Kind};
use service_kit::{Health, Problem, Shutdown, auth::Caller, problem::kinds};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    gateway::{Gateway, Route},
    metrics::Metrics,
    permit::Permit,
    submission::{IdempotencyKey, Meta, Request},
};
use answer::problems;

/// The names of ids that are derived from an idempotency key.
const KEYED_IDS: Uuid = Uuid::from_u128(0x5b0f_3c8e_0e4d_4b0c_9d53_7c6f_8a1e_2d47);

struct App {
    gateway: Gateway,
    metrics: Metrics,
    /// How many commands of imports may be with the writer.
    import_room: Arc<Semaphore>,
    health: Health,
    shutdown: Shutdown,
}

/// The routes for commands.
pub fn routes(
    gateway: Gateway,
    queue_commands_max: usize,
    health: Health,
    is_secured: bool,
    shutdown: Shutdown,
) -> Router {
    // Imports leave half of the queue to everybody else.
    let import_room = Arc::new(Semaphore::new((queue_commands_max / 2).max(1)));
    Router::new()
        .merge(service_kit::openapi::page())
        .route(service_kit::openapi::PATH, get(async move || openapi::document(is_secured)))
        .route("/health/writer", get(writer))
        .route("/commands", post(imports::import))
        .route("/{plural}/{command}", post(command_to_new))
        .route("/{plural}/{id}/{command}", post(command_to_known))
        .with_state(Arc::new(App { gateway, metrics: Metrics::new(), import_room, health, shutdown }))
}

/// Answers 200 on the one instance that writes, for a load balancer that saves the others the forwarding.
async fn writer(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    let elsewhere = match app.gateway.route() {
        Route::Here if app.health.is_leaving() => {
            "This instance writes, but is about to end; the others forward commands to it.".to_owned()
        }
        Route::Here => return Ok("writing\n"),
        Route::There(writer) => format!("The instance {writer} writes; this one forwards commands to it."),
        Route::Nowhere => "Nobody writes at the moment.".to_owned(),
        Route::LogRefuses(reason) => format!("The log refuses: {reason}"),
    };
    Err(Problem::new(kinds::NOT_READY, elsewhere).retry_after(1))
}

/// `POST /accounts/{id}/register`
async fn command_to_known(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path((plural, id, name)) = path.map_err(unreadable_path)?;
    let kind = aggregate(&plural)?;
    let id = read_id(&id)?;
    handle(&app, kind, Some(id), &name, &caller, &headers, body).await
}

/// `POST /accounts/register`: the service makes the id.
async fn command_to_new(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path((plural, name)) = path.map_err(unreadable_path)?;
    let kind = aggregate(&plural)?;
    handle(&app, kind, None, &name, &caller, &headers, body).await
}

async fn handle(
    app: &App,
    kind: Kind,
    id: Option<Uuid>,
    name: &str,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let command = body::command(kind, name, headers, body).await?;
    let permit = Permit::of(caller, &command)?;
    let (key, if_match) = (headers::idempotency_key(headers)?, headers::if_match(headers)?);
    let request = request(id, command, key, if_match, permit, headers::meta(headers, caller)?);
    let id = request.id;
    let answer = app.gateway.submit(request).await;
    app.metrics.answered(kind.name(), answer::label(&answer));
    let outcome = answer.map_err(Problem::from)?;
    Ok(answer::accepted(kind, id, &outcome))
}

fn request(
    id: Option<Uuid>,
    command: Command,
    key: Option<String>,
    if_match: Option<u64>,
    permit: Permit,
    meta: Meta,
) -> Request {
    let id = id.unwrap_or_else(|| match &key {
        // The same key makes the same id, so that a repeat finds the aggregate that the first one made.
        Some(key) => Uuid::new_v5(&KEYED_IDS, id_name(&command, key, &permit).as_bytes()),
        None => Uuid::now_v7(),
    });
    let key = key.map(|key| IdempotencyKey::new(key, &command));
    Request { id, key, if_match, permit, meta, command }
}

/// Two subjects that choose the same key mean two things; no key holds a NUL.
fn id_name(command: &Command, key: &str, permit: &Permit) -> String {
    let plural = command.kind().plural();
    match permit.subject() {
        Some(subject) => format!("{plural}/{key}\0{subject}"),
        None => format!("{plural}/{key}"),
    }
}

fn read_id(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| {
        Problem::new(problems::INVALID_ID, format!("`{id}` is not an id."))
            .field("id")
            .accepted("a UUID, like 018f6d6e-1b2a-7c3d-9e4f-5a6b7c8d9e0f")
    })
}

fn unreadable_path(_: PathRejection) -> Problem {
    Problem::new(kinds::UNKNOWN_ROUTE, "The path is not valid UTF-8.")
}

fn aggregate(plural: &str) -> Result<Kind, Problem> {
    Kind::from_plural(plural).ok_or_else(|| {
        let accepted = Kind::ALL.iter().map(|kind| kind.plural()).collect::<Vec<_>>();
        Problem::new(kinds::UNKNOWN_ROUTE, format!("There is no aggregate `{plural}`.")).accepted(accepted)
    })
}
