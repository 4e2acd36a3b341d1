//! Errors as clients see them: `application/problem+json` (RFC 9457) with a stable `code`.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use include_dir::{Dir, include_dir};
use serde::Serialize;
use serde_json::Value;

/// The code once more, for those between us and the client who see no bodies.
pub const PROBLEM_CODE: HeaderName = HeaderName::from_static("problem-code");

/// One kind of problem: its status, its stable code, and a title that a person can act on.
/// `docs/problems/<code>.md` explains it, and every service serves that page at `/problems/<code>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub status: u16,
    pub code: &'static str,
    pub title: &'static str,
}

impl Kind {
    pub const fn new(status: u16, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title }
    }
}

/// What can go wrong in any service. Kinds of one service alone stand in that service.
pub mod kinds {
    use super::Kind;

    pub const UNKNOWN_ROUTE: Kind = Kind::new(404, "unknown-route", "Nothing is served at this path");
    pub const METHOD_NOT_ALLOWED: Kind =
        Kind::new(405, "method-not-allowed", "This path does not take this method");
    pub const INVALID_HEADER: Kind = Kind::new(400, "invalid-header", "A request header is not valid");
    pub const UNAUTHENTICATED: Kind =
        Kind::new(401, "unauthenticated", "The request needs a token that is valid here");
    pub const FORBIDDEN: Kind = Kind::new(403, "forbidden", "The token does not allow this");
    pub const URL_TOO_LONG: Kind = Kind::new(414, "url-too-long", "The URL is too long");
    pub const HEAD_TOO_LARGE: Kind =
        Kind::new(431, "head-too-large", "The headers of the request are too many or too large");
    pub const ANSWER_TIMEOUT: Kind = Kind::new(504, "answer-timeout", "The answer was not ready in time");
    pub const OVERLOADED: Kind =
        Kind::new(503, "overloaded", "The service is at its limit; try again shortly");
    pub const RATE_LIMITED: Kind = Kind::new(429, "rate-limited", "Too many requests; try again shortly");
    pub const INTERNAL: Kind = Kind::new(500, "internal", "The service failed; the error is in its log");
    pub const NOT_READY: Kind = Kind::new(503, "not-ready", "The service is not ready");
}

/// A problem on its way to the client. Boxed, so that a `Result` with it stays small.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    detail: String,
    field: Option<String>,
    accepted: Option<Value>,
    checks: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `detail` says what is wrong with this very request.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Parts { kind, detail, field: None, accepted: None, checks: None, headers: Vec::new() }))
    }

    /// An error whose cause is ours: the cause goes to the log, the client learns only that it happened.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "request failed");
        Self::new(kinds::INTERNAL, "An unexpected error occurred.")
    }

    /// Names the field, parameter or header that is wrong.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says what would have been accepted.
    pub fn accepted(mut self, accepted: impl Serialize) -> Self {
        self.0.accepted = serde_json::to_value(accepted).ok();
        self
    }

    /// Says what was looked at, each by its name.
    pub fn checks(mut self, checks: impl Serialize) -> Self {
        self.0.checks = serde_json::to_value(checks).ok();
        self
    }

    /// Tells the client when to try again, in seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a Value>,
}

/// The members of `application/problem+json`.
impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Parts { kind, detail, field, accepted, checks, .. } = &*self.0;
        let body = Body {
            r#type: format!("/problems/{}", kind.code),
            title: kind.title,
            status: kind.status,
            code: kind.code,
            detail,
            field: field.as_deref(),
            accepted: accepted.as_ref(),
            checks: checks.as_ref(),
        };
        body.serialize(serializer)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        // For those within this process through whom the answer passes.
        response.extensions_mut().insert(self.0.kind);
        let response_headers = response.headers_mut();
        response_headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response_headers.insert(PROBLEM_CODE, HeaderValue::from_static(self.0.kind.code));
        response_headers.extend(self.0.headers);
        response
    }
}

static PAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../docs/problems");

/// The page about the problem `code`, in Markdown.
pub fn page(code: &str) -> Option<&'static str> {
    PAGES.get_file(format!("{code}.md"))?.contents_utf8()
}
