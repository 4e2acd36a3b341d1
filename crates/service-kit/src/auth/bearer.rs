//! `Authorization: Bearer <token>` (RFC 6750), read strictly.

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION, header::WWW_AUTHENTICATE};

use crate::{Problem, problem::kinds};

/// Tokens have a few hundred bytes, some thousand if they carry much.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
const SCHEME: &str = "Bearer";

/// The one token of a request.
pub fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(no_token()) };
    if values.next().is_some() {
        return Err(refused("The request has more than one header `Authorization`."));
    }
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token = text
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
        .map(|(_, token)| token.trim_matches(' '));
    let Some(token) = token else {
        return Err(refused("`Authorization` is not of the form `Bearer <token>`."));
    };
    if token.len() > TOKEN_BYTES_MAX {
        return Err(refused(&format!("The token has more than {TOKEN_BYTES_MAX} bytes.")));
    }
    Ok(token)
}

fn no_token() -> Problem {
    challenge("The request has no token: send `Authorization: Bearer <token>`.", "Bearer realm=\"headwater\"")
}

/// A token that is not taken; `detail` says why, without the token.
pub fn refused(detail: &str) -> Problem {
    challenge(detail, "Bearer realm=\"headwater\", error=\"invalid_token\"")
}

fn challenge(detail: &str, challenge: &'static str) -> Problem {
    Problem::new(kinds::UNAUTHENTICATED, detail)
        .field("Authorization")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, String> {
        let values = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap()));
        token(&HeaderMap::from_iter(values)).map(str::to_owned).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_token_stands_behind_its_scheme() {
        assert_eq!(read(&["Bearer a.b.c"]).as_deref(), Ok("a.b.c"));
        assert_eq!(read(&["bearer  a.b.c "]).as_deref(), Ok("a.b.c"));
        for other in ["", "a.b.c", "Basic YTpi", "Bearer", "Bearera.b.c"] {
            assert!(read(&[other]).is_err(), "{other}");
        }
    }

    #[test]
    fn there_is_one_token_of_a_size_that_tokens_have() {
        assert!(read(&[]).is_err());
        assert!(read(&["Bearer a.b.c", "Bearer a.b.c"]).unwrap_err().contains("more than one"));
        assert!(read(&[&format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX + 1))]).is_err());
    }
}
