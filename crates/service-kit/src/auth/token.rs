//! From a token to a caller: once in full, then from memory for as long as it holds.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Validation, errors::ErrorKind};
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::{
    Caller,
    args::Rules,
    bearer::refused,
    keyring::{Held, Keyring},
    keys::KeySet,
    scope::Scope,
};
use crate::Problem;

/// Tokens that are remembered; most have a few hundred bytes here.
const REMEMBERED_MAX: usize = 10_000;
/// A subject stands in every event that it causes.
const SUBJECT_BYTES_MAX: usize = 255;

/// What a token says, once it is known to say the truth.
#[derive(Debug)]
pub struct Token {
    pub subject: Arc<str>,
    pub scopes: Vec<Scope>,
    /// Its expiry, and what clocks may differ by.
    pub ends_at: SystemTime,
}

/// The claims that are read here (RFC 7519 §4.1, RFC 8693 §4.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: String,
    /// Seconds, which may have a fraction.
    exp: f64,
    scope: String,
    /// The library would take a list of them.
    #[serde(rename = "iss")]
    _issuer: String,
}

pub struct Tokens {
    rules: Rules,
    keys: Keyring,
    remembered: Cache<[u8; 32], Remembered>,
}

#[derive(Clone)]
struct Remembered {
    token: Arc<Token>,
    /// That of the keys with one of which it was verified.
    generation: u64,
}

/// Why a token is not taken.
enum Refused {
    /// It is signed with a key that is not known, or not yet.
    UnknownKey,
    Because(String),
}

impl Tokens {
    pub fn new(rules: Rules, keys: Keyring) -> Self {
        Self { rules, keys, remembered: Cache::new(REMEMBERED_MAX) }
    }

    pub async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        let hash = digest(&SHA256, token.as_bytes());
        let hash: [u8; 32] = hash.as_ref().try_into().expect("SHA-256 gives 32 bytes");
        if let Some(known) = self.remembered.get(&hash)
            && known.generation == self.keys.generation()
        {
            return known.token.caller();
        }
        let mut held = self.keys.held();
        let mut verified = self.verify(token, &held.keys);
        if matches!(verified, Err(Refused::UnknownKey)) {
            held = self.keys.look_again(held.generation).await;
            verified = self.verify(token, &held.keys);
        }
        match verified {
            Ok(token) => {
                let token = Arc::new(token);
                self.remember(hash, token.clone(), &held);
                token.caller()
            }
            Err(Refused::UnknownKey) => {
                Err(refused("The token is signed with a key that is not known here."))
            }
            Err(Refused::Because(reason)) => Err(refused(&reason)),
        }
    }

    fn remember(&self, hash: [u8; 32], token: Arc<Token>, held: &Held) {
        self.remembered.insert(hash, Remembered { token, generation: held.generation });
    }

    fn verify(&self, token: &str, keys: &KeySet) -> Result<Token, Refused> {
        let header = jsonwebtoken::decode_header(token).map_err(because)?;
        // Extensions that the issuer holds to be critical; none is understood here.
        if header.crit.is_some() {
            return Err(Refused::Because(
                "The token needs extensions (`crit`) that are not known here.".into(),
            ));
        }
        let Some(kid) = header.kid else {
            return Err(Refused::Because(
                "The token does not say which key it is signed with (`kid`).".into(),
            ));
        };
        let key = keys.get(&kid).ok_or(Refused::UnknownKey)?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = self.rules.leeway.as_secs();
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &validation).map_err(because)?;
        Token::new(decoded.claims, self.rules.leeway)
    }
}

impl Token {
    fn new(claims: Claims, leeway: Duration) -> Result<Self, Refused> {
        let Claims { sub, exp, scope, .. } = claims;
        let is_readable = (1..=SUBJECT_BYTES_MAX).contains(&sub.len()) && !sub.contains(char::is_control);
        if !is_readable {
            let expected = format!("expected 1 to {SUBJECT_BYTES_MAX} bytes without control characters");
            return Err(Refused::Because(format!("The token's `sub` is not one; {expected}.")));
        }
        let ends_at =
            Duration::try_from_secs_f64(exp).ok().and_then(|exp| UNIX_EPOCH.checked_add(exp + leeway));
        let ends_at = ends_at.ok_or_else(|| Refused::Because("The token's `exp` is not a time.".into()))?;
        Ok(Self { subject: sub.into(), scopes: Scope::parse_all(&scope), ends_at })
    }

    fn caller(self: Arc<Self>) -> Result<Caller, Problem> {
        if SystemTime::now() < self.ends_at { Ok(Caller::known(self)) } else { Err(refused(EXPIRED)) }
    }
}

const EXPIRED: &str = "The token has expired.";

/// Says what is wrong with a token, and nothing of what it holds.
fn because(error: jsonwebtoken::errors::Error) -> Refused {
    Refused::Because(match error.into_kind() {
        ErrorKind::ExpiredSignature => EXPIRED.into(),
        ErrorKind::ImmatureSignature => "The token is not valid yet (`nbf`).".into(),
        ErrorKind::InvalidIssuer => "The token is not from the issuer that is trusted here (`iss`).".into(),
        ErrorKind::InvalidAudience => "The token is meant for others (`aud`).".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("The token has no `{claim}`."),
        ErrorKind::InvalidAlgorithm => {
            "The token is signed in another way than its key is for (`alg`).".into()
        }
        ErrorKind::InvalidSignature => "The token's signature is not right.".into(),
        _ => "The token is not a JSON Web Token as they are taken here.".into(),
    })
}
