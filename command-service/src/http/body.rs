//! The request's body: JSON of bounded size, read as the fields of one command.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use domain::{Command, Kind, tagged::DecodeError};
use futures::StreamExt;
use service_kit::Problem;

use super::answer::problems;

/// A command is a few fields; this is ample.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// What is over the limit is read and thrown away up to here, because many clients only listen for an
/// answer once they have sent everything.
const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;

pub async fn command(kind: Kind, name: &str, headers: &HeaderMap, body: Body) -> Result<Command, Problem> {
    let bytes = read(body).await?;
    // A command without fields may come without a body.
    let text = if bytes.is_empty() {
        "{}"
    } else {
        let is_json = |media_type: &str| {
            media_type == "application/json"
                || (media_type.starts_with("application/") && media_type.ends_with("+json"))
        };
        check_media_type(headers, is_json, &["application/json"])?;
        utf8(&bytes)?
    };
    fields(kind, name, text)
}

/// Reads the command `name` from its fields.
pub fn fields(kind: Kind, name: &str, fields: &str) -> Result<Command, Problem> {
    kind.command(name, fields).map_err(|error| match error {
        DecodeError::UnknownName { message } => {
            let detail = format!("There is no such command to an {}: {message}.", kind.name());
            Problem::new(problems::UNKNOWN_COMMAND, detail)
        }
        DecodeError::Content { message, is_syntax: true, .. } => {
            Problem::new(problems::MALFORMED_JSON, format!("The body is not a JSON object: {message}."))
        }
        DecodeError::Content { path, message, .. } => {
            let is_field = !path.is_empty() && path != ".";
            let problem = Problem::new(problems::INVALID_FIELD, format!("{message}."));
            if is_field { problem.field(path) } else { problem }
        }
    })
}

/// Refuses a body of another type than is `accepted`.
pub fn check_media_type(
    headers: &HeaderMap,
    is_accepted: impl Fn(&str) -> bool,
    accepted: &[&str],
) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if is_accepted(&media_type) {
        return Ok(());
    }
    let detail = match media_type.as_str() {
        "" => "The body has no Content-Type.".to_owned(),
        media_type => format!("The body is `{media_type}`."),
    };
    Err(Problem::new(problems::UNSUPPORTED_MEDIA_TYPE, detail)
        .field("Content-Type")
        .accepted(accepted.join(" or ")))
}

pub fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes)
        .map_err(|error| Problem::new(problems::MALFORMED_JSON, format!("The body is not UTF-8: {error}.")))
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(
                problems::MALFORMED_JSON,
                "The body ended too soon, or nothing of it came for too long.",
            )
        })?;
        total += chunk.len();
        if total <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&chunk);
        } else if total > DISCARD_BYTES_MAX {
            break;
        }
    }
    if total > BODY_BYTES_MAX {
        return Err(Problem::new(problems::BODY_TOO_LARGE, "The body is larger than a command may be.")
            .accepted(format!("at most {BODY_BYTES_MAX} bytes")));
    }
    Ok(bytes.freeze())
}
