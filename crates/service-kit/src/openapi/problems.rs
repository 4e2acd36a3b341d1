//! Problems (RFC 9457) in a document: one schema for all, and for each operation which of them it may have.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Object, header, reference};
use crate::{Kind, problem::kinds};

pub const SCHEMA: &str = "Problem";

pub fn schema() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {
                "type": "string",
                "format": "uri-reference",
                "description": "The address of a page about problems of this kind.",
            },
            "title": { "type": "string" },
            "status": { "type": "integer", "description": "The status of the answer again." },
            "code": { "type": "string", "description": "Which problem it is; stable, to branch on." },
            "detail": { "type": "string", "description": "What is wrong with this very request." },
            "field": { "type": "string", "description": "The field, parameter or header that is wrong." },
            "accepted": { "description": "What would have been accepted." },
            "checks": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "What was looked at, each `ok` or why not.",
            },
        },
    })
}

/// What can go wrong with any request, before a handler has it or while it works.
const ANYWHERE: [Kind; 6] = [
    kinds::URL_TOO_LONG,
    kinds::RATE_LIMITED,
    kinds::HEAD_TOO_LARGE,
    kinds::INTERNAL,
    kinds::OVERLOADED,
    kinds::ANSWER_TIMEOUT,
];

/// The answers of an operation that are problems, by status: those given and those that are possible anywhere.
pub fn problems(possible: impl IntoIterator<Item = Kind>) -> Object {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in possible.into_iter().chain(ANYWHERE) {
        let known = by_status.entry(kind.status).or_default();
        if !known.contains(&kind) {
            known.push(kind);
        }
    }
    by_status.into_iter().map(|(status, kinds)| (status.to_string(), answer(status, &kinds))).collect()
}

fn answer(status: u16, kinds: &[Kind]) -> Value {
    let codes: Vec<&str> = kinds.iter().map(|kind| kind.code).collect();
    let lines: Vec<String> = kinds.iter().map(|kind| format!("- `{}`: {}", kind.code, kind.title)).collect();
    let narrowed = json!({ "properties": { "status": { "const": status }, "code": { "enum": codes } } });
    json!({
        "description": lines.join("\n"),
        "headers": headers(status),
        "content": {
            "application/problem+json": { "schema": { "allOf": [reference(SCHEMA), narrowed] } },
        },
    })
}

/// What passes by itself says when to try again.
fn headers(status: u16) -> Value {
    match status {
        429 | 503 | 504 => {
            let seconds = json!({ "type": "integer", "minimum": 0 });
            json!({ "Retry-After": header("Seconds until it is worth trying again.", seconds) })
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_gathered_by_their_status() {
        let answers = problems([kinds::OVERLOADED, kinds::INVALID_HEADER, kinds::NOT_READY]);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["400", "414", "429", "431", "500", "503", "504"]);
        let narrowed = &answers["503"]["content"]["application/problem+json"]["schema"]["allOf"][1];
        assert_eq!(narrowed["properties"]["code"]["enum"], json!(["overloaded", "not-ready"]));
        assert!(answers["503"]["headers"]["Retry-After"].is_object());
        assert_eq!(answers["400"]["headers"], json!({}));
    }
}
