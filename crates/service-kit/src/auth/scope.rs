//! What a token allows: `thing:action`, or `thing:action:any`.

use std::fmt;

const ANY: &str = "any";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    thing: Box<str>,
    action: Box<str>,
    /// Whoever the thing belongs to.
    pub is_any: bool,
}

impl Scope {
    pub fn own(thing: &str, action: &str) -> Self {
        Self { thing: thing.into(), action: action.into(), is_any: false }
    }

    pub fn any(thing: &str, action: &str) -> Self {
        Self { is_any: true, ..Self::own(thing, action) }
    }

    /// The scopes of a token, which stand side by side (RFC 8693 §4.2). Those of another form are meant for others.
    pub fn parse_all(scopes: &str) -> Vec<Self> {
        scopes.split(' ').filter_map(Self::parse).collect()
    }

    fn parse(scope: &str) -> Option<Self> {
        let mut parts = scope.split(':');
        let (thing, action) = (parts.next()?, parts.next()?);
        let is_any = match (parts.next(), parts.next()) {
            (None, _) => false,
            (Some(ANY), None) => true,
            _ => return None,
        };
        (!thing.is_empty() && !action.is_empty()).then(|| Self { is_any, ..Self::own(thing, action) })
    }

    pub fn allows(&self, thing: &str, action: &str) -> bool {
        *self.thing == *thing && *self.action == *action
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.thing, self.action, if self.is_any { ":any" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_reads_back_as_it_was_written() {
        for text in ["accounts:read", "account:change-email:any", "any:any:any"] {
            assert_eq!(Scope::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn scopes_of_another_form_are_left_out() {
        let foreign =
            "openid  accounts accounts: :read :: accounts:read:all accounts:read:any:any accounts:read:";
        assert_eq!(Scope::parse_all(foreign), []);
        assert_eq!(Scope::parse_all("openid accounts:read"), [Scope::own("accounts", "read")]);
    }
}
