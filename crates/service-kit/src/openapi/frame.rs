//! The paths that every service has; their handlers are in [`crate::http`].

use serde_json::{Value, json};

use super::{Object, PATH, answer, object, path_parameter, problems};
use crate::problem::kinds;

/// What the paths of the service itself are grouped by.
pub const TAG: &str = "the service itself";

/// What holds for all paths.
pub const DESCRIPTION: &str = "\
    Errors are problems (RFC 9457) with a stable `code`; their `type` leads to a page about them. A path that is \
    not listed here is 404 `unknown-route`; a method that a path does not take is 405 `method-not-allowed`, with \
    the header `Allow`.";

pub fn paths() -> Object {
    let text = |description| answer(description, json!({}), "text/plain", json!({ "type": "string" }));
    object(json!({
        "/health/live": get("Is the service running?", vec![], text("It is."), problems([])),
        "/health/ready": get(
            "Can the service do its work?",
            vec![],
            answer("Every part of it is well.", json!({}), "application/json", ready()),
            problems([kinds::NOT_READY]),
        ),
        "/version": get(
            "Which version of which service is this?",
            vec![],
            answer("This one.", json!({}), "application/json", version()),
            problems([]),
        ),
        "/metrics": get(
            "Measurements for Prometheus, unless they are served at another address",
            vec![],
            text("The measurements."),
            problems([kinds::UNKNOWN_ROUTE]),
        ),
        "/problems/{code}": get(
            "The page about a problem",
            vec![path_parameter("code", "The problem's `code`.", code())],
            answer("The page.", json!({}), "text/markdown", json!({ "type": "string" })),
            problems([kinds::UNKNOWN_ROUTE]),
        ),
        PATH: get("This document", vec![], document(), problems([])),
    }))
}

fn code() -> Value {
    json!({ "type": "string", "minLength": 1, "examples": [kinds::OVERLOADED.code] })
}

fn ready() -> Value {
    let checks = json!({ "type": "object", "additionalProperties": { "const": "ok" } });
    json!({
        "type": "object",
        "properties": { "status": { "const": "ready" }, "checks": checks },
        "required": ["status", "checks"],
    })
}

fn version() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "version": { "type": "string" },
            "revision": { "type": ["string", "null"], "description": "What was built, if the build was told." },
        },
        "required": ["name", "version", "revision"],
    })
}

fn document() -> Value {
    answer("The document.", json!({}), "application/json", json!({ "type": "object" }))
}

fn get(summary: &str, parameters: Vec<Value>, answer: Value, problems: Object) -> Value {
    let mut responses = problems;
    responses.insert("200".to_owned(), answer);
    json!({
        "get": {
            "tags": [TAG],
            "summary": summary,
            "parameters": parameters,
            "responses": responses,
        },
    })
}
