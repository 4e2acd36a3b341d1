//! `If-None-Match` (RFC 9110 §13.1.2): whether the client has the answer already.

use axum::http::{HeaderMap, header};

use crate::cache::ETag;

/// Whether `etag` is among those that the client has. Tags are compared weakly, as is the rule for reads.
pub fn has_it(request: &HeaderMap, etag: ETag) -> bool {
    if !request.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let etag = etag.to_string();
    let lists = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|tag| {
        // No tag of ours holds a comma, so a tag that does is not found, which is right.
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append(header::IF_NONE_MATCH, value.parse().expect("a header value"));
        });
        has_it(&headers, ETag::of(b"{}"))
    }

    #[test]
    fn the_tag_is_found_among_others_weak_or_strong() {
        for values in [
            &["\"44136fa355b3678a\""][..],
            &["W/\"44136fa355b3678a\""],
            &["\"2b\" , \"44136fa355b3678a\""],
            &["\"2b\"", "\"44136fa355b3678a\""],
            &["*"],
        ] {
            assert!(has(values), "{values:?}");
        }
    }

    #[test]
    fn another_tag_is_another() {
        for values in [&[][..], &["\"2b\""], &["44136fa355b3678a"], &["\"44136fa355b3678a"], &[""]] {
            assert!(!has(values), "{values:?}");
        }
    }
}
