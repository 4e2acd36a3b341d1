//! The problems that only this service has; each has its page in `docs/problems/`.

use service_kit::{Kind, Problem};

pub const UNKNOWN_VIEW: Kind = Kind::new(404, "unknown-view", "There is no view with this name");
pub const NO_SUCH_ROW: Kind = Kind::new(404, "no-such-row", "The view has no row with this key");
pub const UNKNOWN_FIELD: Kind =
    Kind::new(400, "unknown-field", "The request names a field or parameter that is not known here");
pub const DUPLICATE_PARAMETER: Kind = Kind::new(400, "duplicate-parameter", "A parameter is given twice");
pub const INVALID_VALUE: Kind =
    Kind::new(400, "invalid-value", "A value is not of the kind that is accepted");
pub const INVALID_CURSOR: Kind = Kind::new(400, "invalid-cursor", "The cursor does not belong to this query");
pub const NOT_INDEXED: Kind = Kind::new(400, "not-indexed", "No index serves this query");
pub const VIEWS_UNAVAILABLE: Kind =
    Kind::new(503, "views-unavailable", "The views cannot be read at the moment");
pub const VIEW_BEHIND: Kind =
    Kind::new(503, "view-behind", "The view has not reached the position that was asked for");

/// Seconds until a client should try again when the reason is likely to pass soon.
pub const RETRY_AFTER_S: u32 = 1;

/// A value of `field` that cannot be read; `accepted` says what can.
pub fn invalid_value(field: &str, value: &str, accepted: &str) -> Problem {
    // Long values would only bury the message.
    let shown: String = value.chars().take(60).collect();
    let detail = format!("`{field}` cannot be `{shown}`; expected {accepted}.");
    Problem::new(INVALID_VALUE, detail).field(field).accepted(accepted)
}

pub fn views_unavailable(reason: &str) -> Problem {
    Problem::new(VIEWS_UNAVAILABLE, reason).retry_after(RETRY_AFTER_S)
}

#[cfg(test)]
mod tests {
    use service_kit::problem::page;

    use super::*;

    #[test]
    fn every_problem_has_its_page_with_its_title_and_status() {
        for kind in [
            UNKNOWN_VIEW,
            NO_SUCH_ROW,
            UNKNOWN_FIELD,
            DUPLICATE_PARAMETER,
            INVALID_VALUE,
            INVALID_CURSOR,
            NOT_INDEXED,
            VIEWS_UNAVAILABLE,
            VIEW_BEHIND,
        ] {
            let page = page(kind.code).expect(kind.code);
            assert!(page.starts_with(&format!("# {}\n", kind.title)), "{}", kind.code);
            assert!(
                page.contains(&format!("Code `{}`, status {}.", kind.code, kind.status)),
                "{}",
                kind.code
            );
        }
    }
}
