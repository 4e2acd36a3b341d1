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
        let mut verified = verify(token, &self.rules, &held.keys);
        if matches!(verified, Err(Refused::UnknownKey)) {
            held = self.keys.look_again(held.generation).await;
            verified = verify(token, &self.rules, &held.keys);
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
}

fn verify(token: &str, rules: &Rules, keys: &KeySet) -> Result<Token, Refused> {
    let header = jsonwebtoken::decode_header(token).map_err(because)?;
    // Extensions that the issuer holds to be critical; none is understood here.
    if header.crit.is_some() {
        return Err(Refused::Because("The token needs extensions (`crit`) that are not known here.".into()));
    }
    let Some(kid) = header.kid else {
        return Err(Refused::Because("The token does not say which key it is signed with (`kid`).".into()));
    };
    let key = keys.get(&kid).ok_or(Refused::UnknownKey)?;
    let mut validation = Validation::new(key.algorithm);
    validation.set_issuer(&[&rules.issuer]);
    validation.set_audience(&[&rules.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = rules.leeway.as_secs();
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &validation).map_err(because)?;
    Token::new(decoded.claims, rules.leeway)
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

#[cfg(test)]
mod tests {
    use arbtest::arbitrary::{self, Unstructured};
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{ring_provider, source::Source};

    fn rules() -> Rules {
        Rules {
            source: Source::parse("keys.json").unwrap(),
            issuer: "issuer".into(),
            audience: "us".into(),
            refresh_every: Duration::from_secs(300),
            leeway: Duration::ZERO,
        }
    }

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn keys() -> KeySet {
        ring_provider::install();
        let x = BASE64.encode(pair().public_key());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
        KeySet::parse(keys.to_string().as_bytes()).unwrap()
    }

    fn sign(header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = BASE64.encode(pair().sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn good() -> (Value, Value) {
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k"});
        let claims = json!({"iss": "issuer", "aud": "us", "sub": "somebody", "exp": 4_000_000_000_u64});
        (header, claims)
    }

    fn any_value(chance: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
        Ok(match chance.int_in_range(0..=6)? {
            0 => Value::Null,
            1 => json!(chance.arbitrary::<u64>()?),
            2 => json!(chance.arbitrary::<f64>()?),
            3 => json!(["us", "issuer"]),
            4 => json!({"alg": "none"}),
            5 => json!(*chance.choose(&["none", "HS256", "EdDSA", "k", "us", "issuer", "\n", ""])?),
            _ => json!(chance.arbitrary::<&str>()?),
        })
    }

    #[test]
    fn what_is_not_signed_is_refused_whatever_it_is() {
        let (rules, keys) = (rules(), keys());
        let (header, claims) = good();
        let token = sign(&header, &claims);
        assert!(verify(&token, &rules, &keys).is_ok());
        let signed = token.rsplit_once('.').unwrap();
        arbtest::arbtest(|chance| {
            let text: &str = chance.arbitrary()?;
            assert!(verify(text, &rules, &keys).is_err());
            assert!(verify(&format!("{}.{text}", signed.0), &rules, &keys).is_err());
            let mut bytes = token.clone().into_bytes();
            let at = chance.choose_index(signed.0.len())?;
            let other = *chance.choose(b"AQgwz_-09.=")?;
            let is_same = bytes[at] == other;
            bytes[at] = other;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(verify(&changed, &rules, &keys).is_ok(), is_same, "{changed}");
            Ok(())
        });
    }

    #[test]
    fn what_is_signed_is_taken_only_if_it_says_what_it_must() {
        let (rules, keys) = (rules(), keys());
        arbtest::arbtest(|chance| {
            let (mut header, mut claims) = good();
            for _ in 0..chance.int_in_range(0..=2)? {
                header[*chance.choose(&["alg", "kid", "crit", "typ", "jwk", "b64"])?] = any_value(chance)?;
                let name = *chance.choose(&["iss", "aud", "sub", "exp", "nbf", "scope", "iat"])?;
                claims[name] = any_value(chance)?;
            }
            if let Ok(token) = verify(&sign(&header, &claims), &rules, &keys) {
                let says = (&header["alg"], &header["kid"], &header["crit"], &claims["iss"]);
                let must = (&json!("EdDSA"), &json!("k"), &Value::Null, &json!("issuer"));
                assert_eq!(says, must, "{header} {claims}");
                assert!(claims["aud"] == "us" || claims["aud"][0] == "us", "{claims}");
                assert!(SystemTime::now() < token.ends_at, "{claims}");
                assert_eq!(claims["sub"], *token.subject, "{claims}");
                assert!(!token.subject.is_empty() && !token.subject.contains(char::is_control));
            }
            Ok(())
        });
    }
}
