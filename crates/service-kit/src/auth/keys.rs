//! A set of public keys (RFC 7517), and which algorithm each of them is for: the key says so, never the token.

use std::collections::BTreeMap;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

/// An issuer has a few: the one in use, the one before and the one after.
const KEYS_MAX: usize = 100;

#[derive(Debug)]
pub struct KeySet {
    keys: BTreeMap<String, Key>,
    /// What tells it from another set.
    jwks: Vec<Jwk>,
}

#[derive(Debug)]
pub struct Key {
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the keys are no JWK set: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("there are {0} keys; {KEYS_MAX} is the most that is taken")]
    TooMany(usize),
    #[error("two keys have the same `kid`, `{0}`")]
    SameId(String),
    #[error("the key `{kid}` cannot be used: {error}")]
    Unusable { kid: String, error: jsonwebtoken::errors::Error },
    #[error(
        "no key can be used: each needs a `kid`, and to be for RS256 (RSA), ES256 (P-256) or EdDSA (Ed25519)"
    )]
    None,
}

impl KeySet {
    /// Keys for anything else than signing in a way that is known here are left out.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let JwkSet { keys: jwks } = serde_json::from_slice(text)?;
        if jwks.len() > KEYS_MAX {
            return Err(KeysError::TooMany(jwks.len()));
        }
        let mut keys = BTreeMap::new();
        for jwk in &jwks {
            let (Some(kid), Some(algorithm)) = (jwk.common.key_id.clone(), algorithm(jwk)) else { continue };
            let key = match DecodingKey::from_jwk(jwk) {
                Ok(key) => Key { algorithm, key },
                Err(error) => return Err(KeysError::Unusable { kid, error }),
            };
            if keys.insert(kid.clone(), key).is_some() {
                return Err(KeysError::SameId(kid));
            }
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self { keys, jwks }) }
    }

    pub fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    pub fn ids(&self) -> Vec<&str> {
        self.keys.keys().map(String::as_str).collect()
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.jwks == other.jwks
    }
}

/// What a key signs with, if that is known here.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    jwk.common.key_algorithm.is_none_or(|said| said == name).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(keys: Value) -> Result<Vec<String>, KeysError> {
        let set = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())?;
        Ok(set.keys.iter().map(|(kid, key)| format!("{kid} {:?}", key.algorithm)).collect())
    }

    fn ed25519(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    #[test]
    fn a_key_says_what_it_signs_with() {
        let p256 = json!({"kty": "EC", "crv": "P-256", "kid": "b", "use": "sig", "alg": "ES256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let rsa = json!({"kty": "RSA", "kid": "c", "n": "0vx7", "e": "AQAB"});
        assert_eq!(parse(json!([ed25519("a"), p256, rsa])).unwrap(), ["a EdDSA", "b ES256", "c RS256"]);
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let others = json!([
            {"kty": "oct", "kid": "secret", "k": "AAEC"},
            {"kty": "oct", "kid": "secret", "alg": "HS256", "k": "AAEC"},
            {"kty": "RSA", "kid": "encrypts", "use": "enc", "n": "0vx7", "e": "AQAB"},
            {"kty": "RSA", "kid": "pss", "alg": "PS256", "n": "0vx7", "e": "AQAB"},
            {"kty": "RSA", "n": "0vx7", "e": "AQAB"},
            {"kty": "EC", "crv": "P-384", "kid": "p384", "x": "AA", "y": "AA"},
            {"kty": "LATTICE", "kid": "of tomorrow"},
            ed25519("a"),
        ]);
        assert_eq!(parse(others.clone()).unwrap(), ["a EdDSA"]);
        let none: Vec<Value> = others.as_array().unwrap().iter().take(7).cloned().collect();
        assert!(matches!(parse(none.into()), Err(KeysError::None)));
    }

    #[test]
    fn a_set_that_is_not_clear_is_refused() {
        assert!(matches!(parse(json!([ed25519("a"), ed25519("a")])), Err(KeysError::SameId(_))));
        let many: Vec<Value> = (0..=KEYS_MAX).map(|n| ed25519(&n.to_string())).collect();
        assert!(matches!(parse(many.into()), Err(KeysError::TooMany(101))));
        assert!(matches!(KeySet::parse(b"<html>"), Err(KeysError::Unreadable(_))));
    }
}
