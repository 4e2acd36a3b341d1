//! The request's headers, read strictly: a header that is there but wrong is a problem, not ignored.

use axum::http::HeaderMap;
use service_kit::{Problem, auth::Caller, problem::kinds, trace};

use crate::submission::Meta;

pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
pub const IF_MATCH: &str = "If-Match";
pub const CORRELATION_ID: &str = "Correlation-Id";
pub const CAUSATION_ID: &str = "Causation-Id";

/// A key is kept for ever, so its length is bounded.
pub const TOKEN_BYTES_MAX: usize = 255;

pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    token(headers, IDEMPOTENCY_KEY)
}

/// `If-Match: "12"` names the revision that the client has seen.
pub fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(text) = single(headers, IF_MATCH)? else { return Ok(None) };
    let revision = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let revision = revision.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match revision.and_then(|text| text.parse().ok()) {
        Some(revision) => Ok(Some(revision)),
        None => Err(invalid(IF_MATCH, "a revision in double quotes, as ETag gave it, like \"12\"")),
    }
}

pub fn meta(headers: &HeaderMap, caller: &Caller) -> Result<Meta, Problem> {
    Ok(Meta {
        correlation_id: token(headers, CORRELATION_ID)?,
        causation_id: token(headers, CAUSATION_ID)?,
        traceparent: traceparent(headers),
        actor: caller.subject().map(|subject| subject.to_string()),
    })
}

/// What follows from a request that is traced belongs to its span; else to its client's, as far as that says which.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    if let Some(span) = trace::current() {
        return Some(trace::traceparent(&span));
    }
    // W3C Trace Context asks to ignore a traceparent that is not valid.
    single(headers, trace::TRACEPARENT).ok().flatten().filter(|text| trace::parse(text).is_some())
}

fn token(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Problem> {
    match single(headers, name)? {
        Some(text) if !is_token(&text) => Err(invalid(name, TOKEN)),
        text => Ok(text),
    }
}

pub const TOKEN: &str = "1 to 255 visible ASCII characters without spaces";

/// What `TOKEN` says.
pub fn is_token(text: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The header's value, if it is there once.
fn single(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(name, "the header once"));
    }
    let text = value.to_str().map_err(|_| invalid(name, "visible ASCII characters"))?;
    Ok(Some(text.trim().to_owned()))
}

fn invalid(name: &'static str, accepted: &str) -> Problem {
    Problem::new(kinds::INVALID_HEADER, format!("The header `{name}` is not valid."))
        .field(name)
        .accepted(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_revision_stands_in_double_quotes() {
        assert_eq!(if_match(&headers(IF_MATCH, "\"12\"")).unwrap(), Some(12));
        for bad in ["12", "*", "\"\"", "\"-1\"", "\"+1\"", "W/\"12\"", "\"99999999999999999999\""] {
            assert!(if_match(&headers(IF_MATCH, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_visible_and_bounded() {
        assert_eq!(idempotency_key(&headers(IDEMPOTENCY_KEY, "a-1")).unwrap().as_deref(), Some("a-1"));
        for bad in ["", "a b", &"a".repeat(256)] {
            assert!(idempotency_key(&headers(IDEMPOTENCY_KEY, bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_is_refused() {
        let mut twice = headers(IDEMPOTENCY_KEY, "a");
        twice.append(IDEMPOTENCY_KEY, "b".parse().unwrap());
        assert!(idempotency_key(&twice).is_err());
    }

    #[test]
    fn a_traceparent_that_is_not_valid_is_ignored() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read =
            |text: &str| meta(&headers(trace::TRACEPARENT, text), &Caller::anyone()).unwrap().traceparent;
        assert_eq!(read(valid).as_deref(), Some(valid));
        assert_eq!(read("00-xyz"), None);
    }
}
