//! The issuer of a stack that asks for tokens: a key of its own, for development. Outside of a stack, tokens come from
//! whoever knows the people.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use clap::Args;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use crate::private_file;

const NAME: &str = "headwater-stack";
const AUDIENCE: &str = "headwater";
/// The stack uses a token of its own for so long.
const OWN_LIFE: Duration = Duration::from_secs(3600);
/// It makes the next one long before that is over.
const RENEW_EVERY: Duration = Duration::from_secs(600);

/// What a person asks for.
#[derive(Args)]
pub struct Wanted {
    /// Whom the token is for; an account's id for somebody who may command that account
    #[arg(long = "sub", value_name = "SUBJECT", value_parser = subject)]
    subject: String,

    /// What it allows, such as `order:place` or `accounts:read:any`; several with spaces between them, or again
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,

    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(1..=30 * 86_400))]
    life_seconds: u64,
}

/// Signs tokens that the services of this stack take. Its files are in the folder `auth` of the data folder.
pub struct Issuer {
    folder: PathBuf,
    key: Ed25519KeyPair,
}

impl Issuer {
    /// With the key of the last start, or a new one. From now on services may look for it.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join("auth");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("key.pkcs8");
        if !path.exists() {
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let key = key.map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
            private_file::replace(&path, key.as_ref())?;
        }
        let issuer = Self::with_key(folder)?;
        private_file::replace(&issuer.jwks(), issuer.public_keys().to_string().as_bytes())?;
        Ok(issuer)
    }

    /// That of a stack that asks for tokens.
    fn of_running(data: &Path) -> Result<Self> {
        let folder = data.join("auth");
        ensure!(
            jwks(&folder).exists(),
            "the stack on {} asks for no tokens: start it with --auth",
            data.display()
        );
        Self::with_key(folder)
    }

    /// This start asks for no tokens.
    pub fn close(data: &Path) {
        private_file::remove(&jwks(&data.join("auth")));
    }

    fn with_key(folder: PathBuf) -> Result<Self> {
        let path = folder.join("key.pkcs8");
        let key = match fs::read(&path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no {}", path.display()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let key = Ed25519KeyPair::from_pkcs8(&key);
        let key =
            key.map_err(|_| anyhow::anyhow!("{} is damaged; delete it for a new key", path.display()))?;
        Ok(Self { folder, key })
    }

    fn public_keys(&self) -> serde_json::Value {
        let x = BASE64.encode(self.key.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid(), "x": x }] })
    }

    /// Tells it from the key of another stack.
    fn kid(&self) -> String {
        BASE64.encode(&self.key.public_key().as_ref()[..9])
    }

    fn jwks(&self) -> PathBuf {
        jwks(&self.folder)
    }

    /// What a service is told, so that it asks for our tokens.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("HEADWATER_AUTH_JWKS", self.jwks().display().to_string()),
            ("HEADWATER_AUTH_ISSUER", NAME.to_owned()),
            ("HEADWATER_AUTH_AUDIENCE", AUDIENCE.to_owned()),
        ]
    }

    pub fn token(&self, subject: &str, scopes: &str, life: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid() });
        let claims = json!({ "iss": NAME, "aud": AUDIENCE, "sub": subject, "scope": scopes, "iat": now.as_secs(),
            "exp": (now + life).as_secs() });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = BASE64.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// One for a part of the stack itself.
    pub fn own_token(&self, scopes: &str) -> String {
        self.token(NAME, scopes, OWN_LIFE)
    }

    /// The file with the token with which a service reads views, kept fresh for as long as the process runs.
    pub fn keep_reading_token(&self, service: &'static str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{service}.token"));
        let scopes: Vec<String> =
            domain::views::ALL.iter().map(|view| format!("{}:read:any", view.name)).collect();
        let scopes = scopes.join(" ");
        let write = {
            let (issuer, path) = (Self::with_key(self.folder.clone())?, path.clone());
            move || private_file::replace(&path, issuer.token(service, &scopes, OWN_LIFE).as_bytes())
        };
        write()?;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                if let Err(error) = write() {
                    crate::screen::say(format!("the {service}'s token is not renewed: {error:#}"));
                }
            }
        });
        Ok(path)
    }
}

fn jwks(folder: &Path) -> PathBuf {
    folder.join("jwks.json")
}

/// `stack token`: prints a token, and nothing else, so that a script can take it.
pub fn print_token(data: &Path, wanted: &Wanted) -> Result<()> {
    let data = std::path::absolute(data).context("the data folder needs a path")?;
    let issuer = Issuer::of_running(&data)?;
    let scopes = wanted.scopes.join(" ");
    println!("{}", issuer.token(&wanted.subject, &scopes, Duration::from_secs(wanted.life_seconds)));
    Ok(())
}

fn subject(text: &str) -> Result<String, String> {
    if (1..=255).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 255 bytes without control characters".to_owned())
    }
}
