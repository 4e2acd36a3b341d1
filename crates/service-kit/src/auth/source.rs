//! Where the keys come from: a file, or a URL.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode, Uri, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

/// Keys have some hundred bytes each.
const KEYS_BYTES_MAX: usize = 256 * 1024;
/// Requests with a key that is not known wait for it.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Url(Url),
}

#[derive(Clone, Debug)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
    is_encrypted: bool,
}

impl Source {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self::File(text.into()));
        };
        let uri: Uri = text.parse().context("--auth-jwks is no URL")?;
        let authority = uri.authority().context("--auth-jwks names no host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_encrypted = match scheme {
            "https" => true,
            "http" if is_this_machine(&host) => false,
            "http" => bail!("--auth-jwks: keys of another machine have to come over https://"),
            _ => bail!("--auth-jwks: expected a file, or a URL of https:// (http:// on this machine)"),
        };
        ensure!(!authority.as_str().contains('@'), "--auth-jwks: keys are public, so their URL has no user");
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        Ok(Self::Url(Url { uri, host, port, is_encrypted }))
    }

    /// The text of the key set.
    pub async fn fetch(&self) -> anyhow::Result<Bytes> {
        let fetching = async {
            match self {
                Self::File(path) => Ok(tokio::fs::read(path).await?.into()),
                Self::Url(url) => url.get().await,
            }
        };
        let fetched = timeout(FETCH_TIME_MAX, fetching).await;
        fetched.unwrap_or_else(|_| bail!("no answer within {FETCH_TIME_MAX:?}"))
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

impl Url {
    async fn get(&self) -> anyhow::Result<Bytes> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        if self.is_encrypted {
            let server = ServerName::try_from(self.host.clone())?;
            let stream = TlsConnector::from(Arc::new(authorities()?)).connect(server, stream).await?;
            self.ask(stream).await
        } else {
            self.ask(stream).await
        }
    }

    /// One request on a connection of its own: keys are fetched a few times an hour. Redirects are not followed.
    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> anyhow::Result<Bytes> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request =
            Request::get(path).header(header::HOST, host).header(header::ACCEPT, "application/json");
        let asking = async {
            let answer = sender.send_request(request.body(Body::empty())?).await?;
            ensure!(answer.status() == StatusCode::OK, "the answer was {}", answer.status());
            let body = to_bytes(Body::new(answer.into_body()), KEYS_BYTES_MAX).await;
            body.with_context(|| format!("the answer was cut off, or has more than {KEYS_BYTES_MAX} bytes"))
        };
        tokio::pin!(asking);
        tokio::select! {
            biased;
            answer = &mut asking => answer,
            // The answer may be whole however the connection ended: not every server says that it closes it.
            ended = connection => match asking.await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    ended?;
                    Err(error)
                }
            },
        }
    }
}

/// Those that this machine trusts; `SSL_CERT_FILE` names others.
fn authorities() -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !roots.is_empty(),
        "this machine has no certificates of authorities; SSL_CERT_FILE names a file of them"
    );
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{}", url.uri),
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
            assert!(matches!(Source::parse(url), Ok(Source::Url(_))), "{url}");
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
}
