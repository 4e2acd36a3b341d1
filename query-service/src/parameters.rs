//! The query string as names and values: each name once, all of it UTF-8 without NUL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use service_kit::Problem;

use crate::problems::{DUPLICATE_PARAMETER, INVALID_VALUE};

/// What needs no escape in the query part of a URL (RFC 3986 §3.4) and has no meaning of its own here.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b',').remove(b':');

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let name = decode(name).ok_or_else(|| undecodable(name))?;
                let value = decode(value).ok_or_else(|| undecodable(&name))?;
                Ok((name, value))
            })
            .collect::<Result<Vec<_>, Problem>>()?;
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(duplicate(pair[0])),
            None => Ok(Self(pairs)),
        }
    }

    /// Parameters that are known to be there once each.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The same query with `name` set to `value`, ready for a URL.
    pub fn with(&self, name: &str, value: &str) -> String {
        self.iter()
            .filter(|(other, _)| *other != name)
            .chain([(name, value)])
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect::<Vec<_>>()
            .join("&")
    }
}

fn encode(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, ESCAPED)
}

/// As HTML forms are written: `+` is a space.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8().ok()?;
    (!decoded.contains('\0')).then(|| decoded.into_owned())
}

fn undecodable(name: &str) -> Problem {
    const ACCEPTED: &str = "UTF-8 without NUL characters";
    let detail = format!("The parameter `{name}` holds bytes that are not text; expected {ACCEPTED}.");
    Problem::new(INVALID_VALUE, detail).field(name).accepted(ACCEPTED)
}

fn duplicate(name: &str) -> Problem {
    let detail = format!("`{name}` is given more than once; give it once.");
    Problem::new(DUPLICATE_PARAMETER, detail).field(name).accepted("each parameter once")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Vec<(String, String)> {
        Parameters::parse(query).expect("valid").0
    }

    fn code(query: &str) -> &'static str {
        Parameters::parse(query).expect_err("not valid").kind().code
    }

    #[test]
    fn names_and_values_are_decoded() {
        let expected =
            vec![("placed_at[gte]".into(), "2026-01-01 é".into()), ("empty".into(), String::new())];
        assert_eq!(parsed("placed_at%5Bgte%5D=2026-01-01+%C3%A9&&empty"), expected);
    }

    #[test]
    fn a_parameter_given_twice_is_refused_however_it_is_spelled() {
        assert_eq!(code("limit=1&limit=1"), "duplicate-parameter");
        assert_eq!(code("limit=1&l%69mit=2"), "duplicate-parameter");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(code("email=%ff"), "invalid-value");
        assert_eq!(code("email=a%00b"), "invalid-value");
        assert_eq!(code("%00=1"), "invalid-value");
    }

    #[test]
    fn the_next_page_is_the_same_query_with_another_cursor() {
        let parameters = Parameters::parse("a%5Bgt%5D=x%26y&cursor=old&limit=2").expect("valid");
        assert_eq!(parameters.with("cursor", "new"), "a%5Bgt%5D=x%26y&limit=2&cursor=new");
    }

    #[test]
    fn whatever_comes_is_read_or_refused_and_can_be_written_again() {
        arbtest::arbtest(|chance| {
            let query: &str = chance.arbitrary()?;
            if let Ok(parameters) = Parameters::parse(query) {
                let (name, value): (String, String) = chance.arbitrary()?;
                if name.contains('\0') || value.contains('\0') {
                    return Ok(());
                }
                let again = Parameters::parse(&parameters.with(&name, &value)).expect("valid").0;
                let mut expected = parameters.0;
                expected.retain(|(other, _)| *other != name);
                expected.push((name, value));
                assert_eq!(again, expected, "{query}");
            }
            Ok(())
        });
    }
}
