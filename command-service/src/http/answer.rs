//! What the writer says, as HTTP.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{Kind, Rejection, RejectionClass};
use schemars::JsonSchema;
use serde::Serialize;
use service_kit::{Problem, problem::kinds};
use uuid::Uuid;

use crate::submission::{Outcome, Refusal};

/// The kinds of problem that only this service has, beside the domain's rejections.
pub mod problems {
    use service_kit::Kind;

    pub const INVALID_ID: Kind = Kind::new(400, "invalid-id", "The id is not a UUID");
    pub const MALFORMED_JSON: Kind = Kind::new(400, "malformed-json", "The body is not valid JSON");
    pub const INVALID_FIELD: Kind = Kind::new(400, "invalid-field", "A field of the command is not valid");
    pub const UNKNOWN_COMMAND: Kind = Kind::new(404, "unknown-command", "There is no such command");
    pub const REVISION_MISMATCH: Kind =
        Kind::new(412, "revision-mismatch", "The aggregate has changed since you read it");
    pub const BODY_TOO_LARGE: Kind = Kind::new(413, "body-too-large", "The body is too large");
    pub const UNSUPPORTED_MEDIA_TYPE: Kind =
        Kind::new(415, "unsupported-media-type", "The body has another Content-Type than is read here");
    pub const KEY_REUSED: Kind =
        Kind::new(422, "idempotency-key-reused", "This Idempotency-Key was used for another command");
    pub const NO_WRITER: Kind = Kind::new(503, "no-writer", "No writer is ready; try again shortly");
    pub const LOG_UNAVAILABLE: Kind =
        Kind::new(503, "log-unavailable", "The log does not take events at the moment; try again shortly");
    pub const IMPORT_INTERRUPTED: Kind =
        Kind::new(503, "import-interrupted", "The import ended before all its lines were read");
    pub const OUTCOME_UNKNOWN: Kind =
        Kind::new(504, "outcome-unknown", "It is not known whether the command took effect");
}

const LOG_POSITION: HeaderName = HeaderName::from_static("log-position");

#[derive(Serialize, JsonSchema)]
pub struct Accepted<'a> {
    /// The aggregate's id.
    id: Uuid,
    /// The position of the aggregate's last event.
    revision: u64,
    /// The position to wait for, to read what the command wrote.
    position: u64,
    /// The types of the events that the command caused; none if it changed nothing.
    events: &'a [String],
}

impl<'a> Accepted<'a> {
    pub fn new(id: Uuid, outcome: &'a Outcome) -> Self {
        Self { id, revision: outcome.revision, position: outcome.revision, events: &outcome.events }
    }
}

/// 201 for an aggregate's first events, else 200.
pub fn status(outcome: &Outcome) -> StatusCode {
    if outcome.is_created { StatusCode::CREATED } else { StatusCode::OK }
}

/// 201 comes with `Location`.
pub fn accepted(kind: Kind, id: Uuid, outcome: &Outcome) -> Response {
    let Outcome { revision, is_created, .. } = outcome;
    let mut response = (status(outcome), Json(Accepted::new(id, outcome))).into_response();
    let headers = response.headers_mut();
    headers.insert(LOG_POSITION, HeaderValue::from(*revision));
    headers.insert(header::ETAG, header_value(format!("\"{revision}\"")));
    if *is_created {
        headers.insert(header::LOCATION, header_value(format!("/{}/{id}", kind.plural())));
    }
    response
}

fn header_value(text: String) -> HeaderValue {
    text.try_into().expect("numbers, ids and names of aggregates are visible ASCII")
}

/// The outcome as a metric's label.
pub fn label(answer: &Result<Outcome, Refusal>) -> &'static str {
    match answer {
        Ok(outcome) if outcome.events.is_empty() => "unchanged",
        Ok(_) => "accepted",
        Err(Refusal::OutcomeUnknown) => "unknown",
        Err(Refusal::Overloaded | Refusal::NoWriter | Refusal::LogUnavailable(_)) => "unavailable",
        Err(_) => "rejected",
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => rejected(rejection),
            Refusal::NotTheirs => Problem::new(
                kinds::FORBIDDEN,
                "The token's subject may do this to what is its own only; a scope with `:any` is for everybody's.",
            ),
            Refusal::RevisionMismatch { actual } => {
                Problem::new(problems::REVISION_MISMATCH, format!("It is at revision {actual}."))
                    .field("If-Match")
                    .accepted(format!("\"{actual}\""))
            }
            Refusal::KeyReused => Problem::new(
                problems::KEY_REUSED,
                "The key names another command to this aggregate; use a new key for a new command.",
            )
            .field("Idempotency-Key"),
            Refusal::TooLarge => {
                Problem::new(problems::BODY_TOO_LARGE, "The command's events are larger than the log takes.")
            }
            Refusal::Overloaded => {
                Problem::new(kinds::OVERLOADED, "Too many commands are waiting.").retry_after(1)
            }
            Refusal::NoWriter => {
                Problem::new(problems::NO_WRITER, "The command had no effect.").retry_after(1)
            }
            Refusal::LogUnavailable(reason) => {
                tracing::warn!(reason, "the log does not take events");
                Problem::new(problems::LOG_UNAVAILABLE, "The command had no effect.").retry_after(1)
            }
            Refusal::OutcomeUnknown => Problem::new(
                problems::OUTCOME_UNKNOWN,
                "The log could not be reached in time. Send the command again with the same Idempotency-Key.",
            )
            .retry_after(1),
        }
    }
}

fn rejected(rejection: Rejection) -> Problem {
    Problem::new(kind_of(&rejection), format!("{rejection}."))
}

/// A rejection as a kind of problem.
pub fn kind_of(rejection: &Rejection) -> service_kit::Kind {
    let status = match rejection.class {
        RejectionClass::Missing => 404,
        RejectionClass::Taken => 409,
        RejectionClass::Rule => 422,
    };
    service_kit::Kind::new(status, rejection.code, rejection.title)
}
