//! How fresh an answer must be: `Min-Position`, and how long to wait for it: `Prefer: wait` (RFC 7240).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use service_kit::{Problem, problem::kinds::INVALID_HEADER};

/// What an answer reflects: everything up to this position.
pub const LOG_POSITION: HeaderName = HeaderName::from_static("log-position");
const MIN_POSITION: HeaderName = HeaderName::from_static("min-position");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long a query waits for its position when the client does not say.
pub const WAIT_DEFAULT_S: u64 = 2;
/// The longest that a client may ask to wait; a longer wish is cut to this.
pub const WAIT_MAX_S: u64 = 30;

/// The least position that an answer must reflect, and how long it may take to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    pub position: i64,
    pub wait: Duration,
}

impl Freshness {
    /// `None`: any position will do. `Prefer` counts only beside `Min-Position`. A wish to wait that cannot
    /// be read is refused rather than ignored, as RFC 7240 would allow: the client meant something by it.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(position) = min_position(headers)? else { return Ok(None) };
        let wait = wait(headers)?.unwrap_or(WAIT_DEFAULT_S).min(WAIT_MAX_S);
        Ok(Some(Self { position, wait: Duration::from_secs(wait) }))
    }
}

fn min_position(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let mut values = headers.get_all(MIN_POSITION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let position = value.to_str().ok().and_then(whole_number).and_then(|n| i64::try_from(n).ok());
    match (position, values.next()) {
        (Some(position), None) => Ok(Some(position)),
        _ => Err(invalid("Min-Position", "one position of the log: a whole number like 125")),
    }
}

/// The first `wait` among the preferences, in seconds.
fn wait(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    for value in headers.get_all(PREFER) {
        let Ok(text) = value.to_str() else { continue };
        for preference in text.split(',') {
            // A preference may have parameters of its own after `;`, none of which `wait` knows.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, seconds) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("wait") {
                let seconds = whole_number(seconds.trim().trim_matches('"'));
                let accepted = format!("wait=<whole seconds>, at most {WAIT_MAX_S}");
                return seconds.map(Some).ok_or_else(|| invalid("Prefer", &accepted));
            }
        }
    }
    Ok(None)
}

fn whole_number(text: &str) -> Option<u64> {
    // `u64::from_str` takes a leading `+`; a number in a header has none.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn invalid(name: &str, accepted: &str) -> Problem {
    let detail = format!("The header `{name}` cannot be read; expected {accepted}.");
    Problem::new(INVALID_HEADER, detail).field(name).accepted(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(pairs: &[(&'static str, &'static str)]) -> Result<Option<(i64, u64)>, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        Freshness::from_headers(&headers)
            .map(|freshness| freshness.map(|f| (f.position, f.wait.as_secs())))
            .map_err(|problem| problem.kind().code)
    }

    #[test]
    fn without_a_least_position_any_will_do() {
        assert_eq!(freshness(&[]), Ok(None));
        assert_eq!(freshness(&[("prefer", "wait=soon")]), Ok(None));
    }

    #[test]
    fn a_query_waits_two_seconds_unless_told_otherwise() {
        assert_eq!(freshness(&[("min-position", "125")]), Ok(Some((125, 2))));
        assert_eq!(freshness(&[("min-position", "125"), ("prefer", "wait=0")]), Ok(Some((125, 0))));
        assert_eq!(freshness(&[("min-position", "125"), ("prefer", "wait=3600")]), Ok(Some((125, 30))));
    }

    #[test]
    fn the_wish_to_wait_is_found_among_other_preferences() {
        let prefer = ("prefer", "respond-async, Wait=\"7\"; x=1");
        assert_eq!(
            freshness(&[("min-position", "1"), ("prefer", "return=minimal"), prefer]),
            Ok(Some((1, 7)))
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["", "abc", "-1", "+1", "1.5", "99999999999999999999"] {
            assert_eq!(freshness(&[("min-position", bad)]), Err("invalid-header"), "{bad}");
        }
        assert_eq!(freshness(&[("min-position", "1"), ("min-position", "2")]), Err("invalid-header"));
        assert_eq!(freshness(&[("min-position", "1"), ("prefer", "wait=soon")]), Err("invalid-header"));
        assert_eq!(freshness(&[("min-position", "1"), ("prefer", "wait")]), Err("invalid-header"));
    }
}
