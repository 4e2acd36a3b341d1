//! Where the keys come from: a file, or a URL.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, Uri, header},
};
use tokio::{fs::File, io::AsyncReadExt, time::timeout};

use crate::client::Client;

/// Keys have some hundred bytes each.
const KEYS_BYTES_MAX: usize = 256 * 1024;
/// Requests with a key that is not known wait for it.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Url(Uri, Box<Client>),
}

impl Source {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self::File(text.into()));
        };
        let uri: Uri = text.parse().context("--auth-jwks is no URL")?;
        let authority = uri.authority().context("--auth-jwks names no host")?;
        match scheme {
            "https" => {}
            "http" if is_this_machine(authority.host().trim_matches(['[', ']'])) => {}
            "http" => bail!("--auth-jwks: keys of another machine have to come over https://"),
            _ => bail!("--auth-jwks: expected a file, or a URL of https:// (http:// on this machine)"),
        }
        ensure!(!authority.as_str().contains('@'), "--auth-jwks: keys are public, so their URL has no user");
        let client = Client::for_scheme(scheme).context("--auth-jwks")?;
        Ok(Self::Url(uri, Box::new(client)))
    }

    /// The text of the key set.
    pub async fn fetch(&self) -> anyhow::Result<Bytes> {
        match self {
            Self::File(path) => timeout(FETCH_TIME_MAX, read(path)).await.context("it takes too long")?,
            Self::Url(uri, client) => {
                let request = Request::get(uri).header(header::ACCEPT, "application/json");
                let answer = client.ask(request.body(Body::empty())?, FETCH_TIME_MAX, KEYS_BYTES_MAX).await?;
                ensure!(answer.status() == StatusCode::OK, "the answer was {}", answer.status());
                Ok(answer.into_body())
            }
        }
    }
}

/// No more of it than keys take, should it be no file of keys at all.
async fn read(path: &Path) -> anyhow::Result<Bytes> {
    let mut text = Vec::new();
    File::open(path).await?.take(KEYS_BYTES_MAX as u64 + 1).read_to_end(&mut text).await?;
    ensure!(text.len() <= KEYS_BYTES_MAX, "it has more than {KEYS_BYTES_MAX} bytes");
    Ok(text.into())
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(uri, _) => write!(f, "{uri}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_another_machine_come_encrypted() {
        for url in [
            "https://issuer.example/keys",
            "http://127.0.0.1:80/keys",
            "http://localhost/",
            "http://[::1]:1/",
        ] {
            assert!(matches!(Source::parse(url), Ok(Source::Url(..))), "{url}");
        }
        for url in [
            "http://issuer.example/keys",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://0.0.0.0/",
            "ftp://127.0.0.1/",
            "file:///keys.json",
            "https://user:secret@issuer.example/",
            "https://",
        ] {
            assert!(Source::parse(url).is_err(), "{url}");
        }
        assert!(matches!(Source::parse("keys.json"), Ok(Source::File(_))));
    }
    #[tokio::test]
    async fn no_more_is_read_of_a_file_than_keys_take() {
        let error = Source::parse("/dev/zero").unwrap().fetch().await.unwrap_err();
        assert_eq!(error.to_string(), "it has more than 262144 bytes");
    }
}
