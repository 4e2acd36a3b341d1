use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, checked_string};

/// A person's name, as they write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(example = "Ada Lovelace", extend("pattern" = LINE, "maxLength" = Self::CHARS_MAX, "x-personal" = true))]
pub struct Name(String);

/// A short code for a place, such as `eu` or `us-east`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(example = "eu-west", extend("pattern" = r"^\s*[A-Za-z0-9-]{1,32}\s*$"))]
pub struct Region(String);

/// Why something was done, in somebody's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(example = "changed my mind", extend("pattern" = LINE, "maxLength" = Self::CHARS_MAX, "x-personal" = true))]
pub struct Reason(String);

checked_string!(Name);
checked_string!(Region);
checked_string!(Reason);

impl Name {
    const CHARS_MAX: usize = 100;

    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let error =
            InvalidValue("not a name; expected 1 to 100 characters, none of them a control character");
        line(text, Self::CHARS_MAX).map(Self).ok_or(error)
    }
}

impl Region {
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let region = text.trim().to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=32).contains(&region.len()) || !region.chars().all(allowed) {
            return Err(InvalidValue("not a region; expected 1 to 32 letters, digits or `-`, like eu-west"));
        }
        Ok(Self(region))
    }
}

impl Reason {
    const CHARS_MAX: usize = 500;

    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let error =
            InvalidValue("not a reason; expected 1 to 500 characters, none of them a control character");
        line(text, Self::CHARS_MAX).map(Self).ok_or(error)
    }
}

/// The rule of [`line`] as a pattern: something to see, and no control characters.
const LINE: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";

/// One line of text, trimmed. Control characters are refused: some break terminals, and NUL cannot be
/// stored as text in Postgres.
fn line(text: &str, most: usize) -> Option<String> {
    let text = text.trim();
    let count = text.chars().count();
    let is_line = (1..=most).contains(&count) && !text.chars().any(char::is_control);
    is_line.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_and_holds_no_control_characters() {
        assert_eq!(Name::parse(" Ada Lovelace ").unwrap().as_str(), "Ada Lovelace");
        for text in ["", " ", "a\0b", "a\nb", &"a".repeat(101)] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
    }
}
