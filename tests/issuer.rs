//! An issuer of tokens that also issues what nobody should take.

use std::{
    fs,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::instance::Settings;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "headwater";

pub struct Key {
    pub kid: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair, SystemRandom),
}

impl Key {
    pub fn ed25519(kid: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { kid: kid.to_owned(), pair: Pair::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap()) }
    }

    pub fn p256(kid: &str) -> Self {
        let (curve, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, key.as_ref(), &random).unwrap();
        Self { kid: kid.to_owned(), pair: Pair::P256(pair, random) }
    }

    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(..) => "ES256",
        }
    }

    /// The public key alone.
    pub fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_owned(),
            Pair::P256(pair, _) => pair.public_key().as_ref().to_owned(),
        }
    }

    pub fn jwk(&self) -> Value {
        let public = self.public();
        match &self.pair {
            Pair::Ed25519(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": BASE64.encode(public)})
            }
            Pair::P256(..) => {
                let (x, y) = public[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
                    "x": BASE64.encode(x), "y": BASE64.encode(y)})
            }
        }
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid})
    }

    /// A token that says this.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, |message| match &self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_owned(),
            Pair::P256(pair, random) => pair.sign(random, message).unwrap().as_ref().to_owned(),
        })
    }
}

/// A token whose signature is what `sign` gives.
pub fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = BASE64.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// What a token says that holds for ten minutes.
pub fn claims(subject: &str, scopes: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scopes, "exp": now() + 600})
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn key_set<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    json!({"keys": keys.into_iter().map(Key::jwk).collect::<Vec<_>>()}).to_string()
}

/// A key, in a file that services read.
pub struct Issuer {
    pub key: Key,
    folder: TempDir,
}

impl Issuer {
    pub fn new() -> Self {
        let issuer = Self { key: Key::ed25519("first"), folder: TempDir::new().unwrap() };
        issuer.publish(key_set([&issuer.key]));
        issuer
    }

    pub fn publish(&self, keys: String) {
        fs::write(self.file(), keys).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("jwks.json")
    }

    pub fn token(&self, subject: &str, scopes: &str) -> String {
        self.key.token(&claims(subject, scopes))
    }

    /// What a service is told, so that it asks for our tokens.
    pub fn flags(&self) -> Vec<String> {
        flags(self.file().to_str().unwrap())
    }

    /// The same for a process.
    pub fn settings(&self) -> Settings {
        vec![
            ("HEADWATER_AUTH_JWKS", self.file().into()),
            ("HEADWATER_AUTH_ISSUER", ISSUER.into()),
            ("HEADWATER_AUTH_AUDIENCE", AUDIENCE.into()),
        ]
    }
}

pub fn flags(jwks: &str) -> Vec<String> {
    let flags = [
        "--auth-jwks",
        jwks,
        "--auth-issuer",
        ISSUER,
        "--auth-audience",
        AUDIENCE,
        "--auth-leeway-seconds",
        "0",
    ];
    flags.map(str::to_owned).into()
}
