use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, checked_string};

/// A name to sign in with, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(example = &"ada", extend("pattern" = r"^\s*[A-Za-z0-9._-]{2,32}\s*$", "x-personal" = true))]
pub struct Username(String);

checked_string!(Username);

impl Username {
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let username = text.trim().to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(2..=32).contains(&username.len()) || !username.chars().all(allowed) {
            return Err(InvalidValue("not a username; expected 2 to 32 letters, digits, `-`, `_` or `.`"));
        }
        Ok(Self(username))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_lower_cased_and_of_few_characters() {
        assert_eq!(Username::parse("Ada.L").unwrap().as_str(), "ada.l");
        for text in ["", "a", "a b", "ada!", "ädä", &"a".repeat(33)] {
            assert!(Username::parse(text).is_err(), "{text:?}");
        }
    }
}
