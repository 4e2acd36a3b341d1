use email_address::{EmailAddress, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, checked_string};

/// An email address in lower case: two spellings that differ only in case are one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(example = "ada@example.org", extend("format" = "email", "x-personal" = true))]
pub struct Email(String);

checked_string!(Email);

impl Email {
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        const INVALID: InvalidValue = InvalidValue("not an email address; expected like name@example.org");
        let email = text.trim().to_lowercase();
        let options = Options::default().without_display_text().without_domain_literal().with_required_tld();
        let address = EmailAddress::parse_with_options(&email, options).map_err(|_| INVALID)?;
        // Quoted local parts may hold spaces and worse; nobody's real address needs them.
        if address.local_part().contains('"') || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(INVALID);
        }
        Ok(Self(email))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_trimmed_and_lower_cased() {
        assert_eq!(Email::parse(" Ada@Example.ORG ").unwrap().as_str(), "ada@example.org");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let bad = [
            "",
            "ada",
            "ada@",
            "@example.org",
            "a b@example.org",
            "a@b",
            "\"a b\"@example.org",
            "a@b.org\r\nBcc: x@y.org",
            "Ada <ada@example.org>",
            "a@[127.0.0.1]",
            "a\0@example.org",
        ];
        for text in bad {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }
}
