//! What several operations have in common.

use domain::{Kind, tagged::Variant};
use serde_json::{Value, json};
use service_kit::{openapi::parameter, trace::TRACEPARENT};

use crate::http::headers::{CAUSATION_ID, CORRELATION_ID, IDEMPOTENCY_KEY, IF_MATCH, TOKEN_BYTES_MAX};

/// The command's name among all, as `account.register`.
pub fn name(kind: Kind, variant: &Variant) -> String {
    format!("{}.{}", kind.name(), variant.name)
}

pub fn token() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": TOKEN_BYTES_MAX, "pattern": "^[!-~]+$" })
}

pub fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

/// The headers that speak of one command.
pub fn command_headers() -> [Value; 2] {
    let key = "One key, one effect: the same command under the same key to the same aggregate has the effect \
               of the first, for ever. To a new aggregate, the key also makes the id.";
    let revision = "Refuses with 412 unless the aggregate is at this revision, as `ETag` gave it.";
    // 19 digits always fit.
    let quoted = json!({ "type": "string", "pattern": r#"^"[0-9]{1,19}"$"# });
    [parameter("header", IDEMPOTENCY_KEY, key, token()), parameter("header", IF_MATCH, revision, quoted)]
}

/// The headers that are kept with the events.
pub fn tracing_headers() -> [Value; 3] {
    let any = json!({ "type": "string" });
    [
        parameter("header", CORRELATION_ID, "What the events belong to, kept with them.", token()),
        parameter("header", CAUSATION_ID, "What the command came of, kept with its events.", token()),
        parameter("header", TRACEPARENT, "W3C Trace Context; ignored if it is not valid.", any),
    ]
}
