use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, header, request::Parts},
};

use super::{scope::Scope, token::Token};
use crate::{Problem, problem::kinds};

/// Who sends a request. The frame puts it into the request's extensions; routes take it as an argument.
#[derive(Clone, Debug)]
pub struct Caller(Who);

#[derive(Clone, Debug)]
enum Who {
    /// Nobody is asked for a token: whoever it is may do anything.
    Anyone,
    /// On a path where none is asked for, although tokens are: reaches nothing.
    Nobody,
    Known(Arc<Token>),
}

/// How far a caller reaches with an action on a kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Nothing,
    /// What belongs to this subject. What that means where things belong to nobody is for the service to say.
    Own(Arc<str>),
    /// All things, whoever they belong to.
    Any,
}

impl Caller {
    /// May do anything: tokens are not asked for.
    pub fn anyone() -> Self {
        Self(Who::Anyone)
    }

    /// May do nothing.
    pub fn nobody() -> Self {
        Self(Who::Nobody)
    }

    pub(super) fn known(token: Arc<Token>) -> Self {
        Self(Who::Known(token))
    }

    /// Who it is, if that is known.
    pub fn subject(&self) -> Option<&Arc<str>> {
        match &self.0 {
            Who::Known(token) => Some(&token.subject),
            Who::Anyone | Who::Nobody => None,
        }
    }

    /// How far `action` on a `thing` reaches by the token's scopes: `thing:action` is for one's own things,
    /// `thing:action:any` for everybody's.
    pub fn reach(&self, thing: &str, action: &str) -> Reach {
        match &self.0 {
            Who::Anyone => Reach::Any,
            Who::Nobody => Reach::Nothing,
            Who::Known(token) => {
                let allowing = || token.scopes.iter().filter(|scope| scope.allows(thing, action));
                match (allowing().any(|scope| scope.is_any), allowing().next()) {
                    (true, _) => Reach::Any,
                    (false, Some(_)) => Reach::Own(token.subject.clone()),
                    (false, None) => Reach::Nothing,
                }
            }
        }
    }

    /// The same, where reaching nothing is 403 and says which scope is missing.
    pub fn demand(&self, thing: &str, action: &str) -> Result<Reach, Problem> {
        match self.reach(thing, action) {
            Reach::Nothing => Err(Self::lacks(thing, action)),
            reach => Ok(reach),
        }
    }

    /// What a caller is told that reaches nothing.
    pub fn lacks(thing: &str, action: &str) -> Problem {
        let scope = Scope::own(thing, action);
        forbidden(&scope, format!("The token does not have the scope `{scope}`."))
    }

    /// What a caller is told that reaches its own things, and asked for another's.
    pub fn not_theirs(thing: &str, action: &str) -> Problem {
        let scope = Scope::any(thing, action);
        forbidden(
            &scope,
            format!("The token's subject may do this to what is its own; the scope `{scope}` is for all."),
        )
    }

    /// Returns once the token has expired; never, if there is none.
    pub async fn expired(&self) {
        match &self.0 {
            Who::Known(token) => {
                while let Ok(left) = token.ends_at.duration_since(SystemTime::now()) {
                    // Looks at the clock now and then, because it may be set.
                    tokio::time::sleep(left.min(LOOK_AT_THE_CLOCK_EVERY) + Duration::from_millis(1)).await;
                }
            }
            Who::Anyone | Who::Nobody => std::future::pending().await,
        }
    }
}

const LOOK_AT_THE_CLOCK_EVERY: Duration = Duration::from_secs(30);

fn forbidden(scope: &Scope, detail: String) -> Problem {
    let challenge = format!("Bearer realm=\"headwater\", error=\"insufficient_scope\", scope=\"{scope}\"");
    let problem = Problem::new(kinds::FORBIDDEN, detail);
    match HeaderValue::from_str(&challenge) {
        Ok(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
        // A path named a thing that no scope can.
        Err(_) => problem,
    }
}

/// A request that has not come through the frame is nobody's.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Caller::nobody))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada(scopes: &str) -> Caller {
        let ends_at = SystemTime::now() + Duration::from_secs(60);
        Caller::known(Arc::new(Token { subject: "ada".into(), scopes: Scope::parse_all(scopes), ends_at }))
    }

    fn own() -> Reach {
        Reach::Own("ada".into())
    }

    #[test]
    fn a_scope_reaches_ones_own_things_or_everybodys() {
        let caller = ada("accounts:read order:place:any order:place");
        assert_eq!(caller.reach("accounts", "read"), own());
        assert_eq!(caller.reach("order", "place"), Reach::Any);
        for (thing, action) in [("account", "read"), ("accounts", "rea"), ("order", "cancel"), ("order", "")]
        {
            assert_eq!(caller.reach(thing, action), Reach::Nothing, "{thing}:{action}");
        }
    }

    #[test]
    fn without_tokens_anyone_may_do_anything_and_without_a_caller_nobody_anything() {
        assert_eq!(Caller::anyone().reach("accounts", "read"), Reach::Any);
        assert_eq!(Caller::nobody().reach("accounts", "read"), Reach::Nothing);
    }

    #[test]
    fn a_caller_is_told_which_scope_is_missing() {
        let problem = ada("").demand("accounts", "read").unwrap_err();
        assert_eq!((problem.kind().status, problem.kind().code), (403, "forbidden"));
        assert!(problem.detail().contains("`accounts:read`"), "{}", problem.detail());
        assert_eq!(ada("accounts:read").demand("accounts", "read").unwrap(), own());
    }

    #[tokio::test(start_paused = true)]
    async fn a_callers_time_ends_with_its_token() {
        let ends_at = SystemTime::now() - Duration::from_secs(1);
        let late = Token { subject: "ada".into(), scopes: vec![], ends_at };
        Caller::known(Arc::new(late)).expired().await;
    }
}
