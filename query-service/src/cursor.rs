//! Cursors: the place where a page ended, as the values of its order's columns in its last row. A cursor
//! carries a hash of its query and place, so that one that is damaged or belongs to another query is
//! noticed. It is no secret and grants nothing: any replica reads the cursors of any other.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::Problem;
use sha2::{Digest, Sha256};

use crate::problems::INVALID_CURSOR;

/// Enough against accidents, which is all that the hash is against.
const HASH_BYTES: usize = 9;

/// Changes when the meaning of a cursor changes, so that old ones are refused rather than misread.
const FORMAT: &str = "1";

pub fn encode(place: &[String], query_identity: &str) -> String {
    let place = serde_json::json!(place).to_string();
    let mut bytes = hash(query_identity, place.as_bytes()).to_vec();
    bytes.extend_from_slice(place.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The values of the `columns` columns of the order.
pub fn decode(text: &str, query_identity: &str, columns: usize) -> Result<Vec<String>, Problem> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let (found, place) = bytes.split_at_checked(HASH_BYTES).ok_or_else(invalid)?;
    if found != hash(query_identity, place) {
        return Err(invalid());
    }
    let place: Vec<String> = serde_json::from_slice(place).map_err(|_| invalid())?;
    let whole = place.len() == columns && !place.iter().any(|value| value.contains('\0'));
    if whole { Ok(place) } else { Err(invalid()) }
}

pub fn invalid() -> Problem {
    let detail = "`cursor` is not one that this query gave: take `next_cursor` from an answer, \
                  and keep the filters and the sort as they were.";
    Problem::new(INVALID_CURSOR, detail).field("cursor").accepted("next_cursor of the page before")
}

fn hash(query_identity: &str, place: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = Sha256::new();
    for part in [FORMAT.as_bytes(), query_identity.as_bytes(), place] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Vec<String> {
        vec!["2026-01-31 12:00:00.000001+00".into(), "é\"".into()]
    }

    fn is_refused(text: &str, query: &str, columns: usize) -> bool {
        decode(text, query, columns).is_err_and(|problem| problem.kind() == INVALID_CURSOR)
    }

    #[test]
    fn a_cursor_names_its_place_again() {
        let text = encode(&place(), "orders by time");
        assert_eq!(decode(&text, "orders by time", 2).expect("valid"), place());
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        assert!(is_refused(&encode(&place(), "orders by time"), "orders by id", 2));
    }

    #[test]
    fn a_damaged_cursor_is_refused_wherever_the_damage_is() {
        let text = encode(&place(), "q");
        for i in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[i] = if damaged[i] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("ascii");
            assert!(is_refused(&damaged, "q", 2), "{damaged}");
            assert!(is_refused(&text[..i], "q", 2));
        }
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "x", "🦀", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAA", "../../etc"] {
            assert!(is_refused(text, "q", 1), "{text}");
        }
    }

    #[test]
    fn a_place_with_the_wrong_number_of_values_or_with_nul_is_refused() {
        assert!(is_refused(&encode(&place(), "q"), "q", 1));
        assert!(is_refused(&encode(&["a\0".into()], "q"), "q", 1));
    }

    #[test]
    fn every_place_is_named_again_and_whatever_is_no_cursor_is_refused() {
        arbtest::arbtest(|chance| {
            let place: Vec<String> = chance.arbitrary()?;
            let query: String = chance.arbitrary()?;
            let text = encode(&place, &query);
            match place.iter().any(|value| value.contains('\0')) {
                true => assert!(is_refused(&text, &query, place.len())),
                false => assert_eq!(decode(&text, &query, place.len()).ok(), Some(place)),
            }
            assert!(is_refused(chance.arbitrary()?, &query, 1));
            Ok(())
        });
    }
}
