//! One line: what a request for one command says in its path, its headers and its body.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use service_kit::{Problem, auth::Caller};

use super::lines::{Line, TooLong};
use crate::{
    http::{
        aggregate,
        answer::problems,
        body::{self, BODY_BYTES_MAX},
        headers, read_id, request,
    },
    permit::Permit,
    submission::{Meta, Request},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    aggregate: Cow<'a, str>,
    #[serde(borrow)]
    command: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    /// The command's fields.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    if_match: Option<u64>,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    causation_id: Option<String>,
}

/// The command of a line, if `caller` may give it; `meta` says what the line leaves out.
pub fn read(line: &Line, caller: &Caller, meta: &Meta) -> Result<Request, Problem> {
    let text = line.text.as_deref().map_err(|TooLong| {
        Problem::new(problems::BODY_TOO_LARGE, "The line is longer than a command may be.")
            .accepted(format!("at most {BODY_BYTES_MAX} bytes"))
    })?;
    let members: Members<'_> = serde_json::from_str(body::utf8(text)?).map_err(|error| {
        let (kind, what) = if error.is_data() {
            (problems::INVALID_FIELD, "The line is not a command")
        } else {
            (problems::MALFORMED_JSON, "The line is not a JSON object")
        };
        Problem::new(kind, format!("{what}: {error}."))
    })?;
    let kind = aggregate(&members.aggregate)?;
    let id = members.id.as_deref().map(read_id).transpose()?;
    let key = token("idempotency_key", members.idempotency_key)?;
    let correlation_id = token("correlation_id", members.correlation_id)?;
    let causation_id = token("causation_id", members.causation_id)?;
    let meta = Meta {
        correlation_id: correlation_id.or_else(|| meta.correlation_id.clone()),
        causation_id: causation_id.or_else(|| meta.causation_id.clone()),
        traceparent: meta.traceparent.clone(),
        actor: meta.actor.clone(),
    };
    let fields = members.data.map_or("{}", RawValue::get);
    let command = body::fields(kind, &members.command, fields)?;
    let permit = Permit::of(caller, &command)?;
    Ok(request(id, command, key, members.if_match, permit, meta))
}

fn token(name: &'static str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if !headers::is_token(&text) => {
            Err(Problem::new(problems::INVALID_FIELD, format!("The member `{name}` is not valid."))
                .field(name)
                .accepted(headers::TOKEN))
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Request, Problem> {
        let line = Line { number: 1, text: Ok(text.to_owned().into()) };
        let meta = Meta { correlation_id: Some("of-the-import".into()), ..Meta::default() };
        read(&line, &Caller::anyone(), &meta)
    }

    fn refused(text: &str, code: &str, words: &str) {
        let problem = parse(text).expect_err(text);
        assert_eq!(problem.kind().code, code, "{text}");
        let json = serde_json::to_string(&problem).unwrap();
        assert!(json.contains(words), "no `{words}` in {json}");
    }

    #[test]
    fn a_line_says_what_a_request_says() {
        let request = parse(
            r#"{"aggregate": "accounts", "id": "018f6d6e-1b2a-7c3d-9e4f-5a6b7c8d9e0f", "command": "rename",
                "idempotency_key": "k1", "if_match": 3, "causation_id": "cause", "data": {"name": "Ada"}}"#,
        )
        .unwrap();
        assert_eq!(request.id.to_string(), "018f6d6e-1b2a-7c3d-9e4f-5a6b7c8d9e0f");
        assert_eq!((request.key.unwrap().key.as_str(), request.if_match), ("k1", Some(3)));
        assert_eq!(request.meta.correlation_id.as_deref(), Some("of-the-import"));
        assert_eq!(request.meta.causation_id.as_deref(), Some("cause"));
    }

    #[test]
    fn the_same_key_makes_the_same_id() {
        let close = r#"{"aggregate": "accounts", "command": "close", "idempotency_key": "k1"}"#;
        assert_eq!(parse(close).unwrap().id, parse(close).unwrap().id);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        refused("{", "malformed-json", "EOF");
        refused("7", "invalid-field", "not a command");
        refused(r#"{"aggregate":"accounts"}"#, "invalid-field", "command");
        refused(r#"{"aggregate":"accounts","command":"close","why":1}"#, "invalid-field", "why");
        refused(r#"{"aggregate":"planets","command":"visit"}"#, "unknown-route", "accounts");
        refused(r#"{"aggregate":"accounts","command":"promote"}"#, "unknown-command", "close");
        refused(r#"{"aggregate":"accounts","command":"close","id":"7"}"#, "invalid-id", "UUID");
        refused(
            r#"{"aggregate":"accounts","command":"close","idempotency_key":"a b"}"#,
            "invalid-field",
            r#""field":"idempotency_key""#,
        );
        refused(
            r#"{"aggregate":"accounts","command":"rename","data":{"name":""}}"#,
            "invalid-field",
            r#""field":"name""#,
        );
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused() {
        let line = Line { number: 1, text: Ok(vec![b'"', 0xff, b'"'].into()) };
        assert_eq!(
            read(&line, &Caller::anyone(), &Meta::default()).unwrap_err().kind().code,
            "malformed-json"
        );
    }
}
