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
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What is over the limit is read and thrown away up to here, because many clients only listen for an
/// answer once they have sent everything.
const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;

pub async fn command(kind: Kind, name: &str, headers: &HeaderMap, body: Body) -> Result<Command, Problem> {
    let bytes = read(body).await?;
    // A command without fields may come without a body.
    let fields = if bytes.is_empty() { "{}" } else { json(headers, &bytes)? };
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

fn json<'a>(headers: &HeaderMap, bytes: &'a Bytes) -> Result<&'a str, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if media_type != "application/json"
        && !(media_type.starts_with("application/") && media_type.ends_with("+json"))
    {
        let detail = match media_type.as_str() {
            "" => "The body has no Content-Type.".to_owned(),
            media_type => format!("The body is `{media_type}`."),
        };
        return Err(Problem::new(problems::UNSUPPORTED_MEDIA_TYPE, detail)
            .field("Content-Type")
            .accepted("application/json"));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| Problem::new(problems::MALFORMED_JSON, format!("The body is not UTF-8: {error}.")))
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(problems::MALFORMED_JSON, "The connection ended before the body did.")
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
