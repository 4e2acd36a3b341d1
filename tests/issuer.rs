//! Whoever issues tokens: a key, its public half in a file, and what it signs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use stack::servers::temporary_folder;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "headwater";
const LIFE_SECONDS: u64 = 600;

pub struct Issuer {
    key: Ed25519KeyPair,
    folder: tempfile::TempDir,
}

impl Issuer {
    pub fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        let folder = temporary_folder().unwrap();
        let x = BASE64.encode(key.public_key());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x}]});
        std::fs::write(folder.path().join("keys.json"), keys.to_string()).unwrap();
        Self { key, folder }
    }

    /// The settings of a service that takes these tokens.
    pub fn settings(&self) -> [String; 6] {
        let keys = self.folder.path().join("keys.json").display().to_string();
        ["--auth-jwks", &keys, "--auth-issuer", ISSUER, "--auth-audience", AUDIENCE].map(str::to_owned)
    }

    /// What goes into `Authorization`.
    pub fn token(&self, subject: &str, scope: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scope, "exp": now + LIFE_SECONDS});
        let part = |value: Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": "one"})), part(claims));
        format!("Bearer {signed}.{}", BASE64.encode(self.key.sign(signed.as_bytes())))
    }
}
