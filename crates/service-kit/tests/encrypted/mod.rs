//! A server that is reached by https alone.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use axum::http::StatusCode;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::server::{Answer, Server, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate and its key in files, as the server's flags name them.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    _folder: TempDir,
}

impl Identity {
    fn new() -> (Self, CertificateDer<'static>) {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        let identity = Self { certificate, key, _folder: folder };
        let certificate = identity.renew();
        (identity, certificate)
    }

    /// Puts another certificate and its key into the files.
    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&self.certificate, cert.pem()).unwrap();
        fs::write(&self.key, signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn flags(&self) -> [&str; 4] {
        ["--tls-certificate", self.certificate.to_str().unwrap(), "--tls-key", self.key.to_str().unwrap()]
    }
}

/// A client that trusts one certificate.
async fn connect(
    server: &Server,
    certificate: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// Sends a request, and gives its answer, after which the connection ends as TLS has it.
async fn ask(mut stream: TlsStream<TcpStream>, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Answer::read(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn who_knows_the_certificate_is_served_and_whoever_speaks_in_the_clear_is_not() {
    let (identity, certificate) = Identity::new();
    let server = Server::start(&identity.flags()).await;
    let answer = ask(connect(&server, &certificate).await.unwrap(), "/small").await;
    assert_eq!(answer.status, StatusCode::OK);
    let large = ask(connect(&server, &certificate).await.unwrap(), "/large").await;
    assert_eq!(large.status, StatusCode::OK);

    let (_, stranger) = Identity::new();
    assert!(connect(&server, &stranger).await.is_err(), "this is not the server that was asked for");
    let mut clear = TcpStream::connect(server.address).await.unwrap();
    clear.write_all(b"GET /small HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, clear.read_to_end(&mut answer)).await.expect("the connection ends");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn who_does_not_agree_on_how_to_encrypt_is_not_waited_for() {
    let (identity, _) = Identity::new();
    let flags = [&identity.flags()[..], &["--http-head-timeout-ms", "300"]].concat();
    let server = Server::start(&flags).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let ended = timeout(PATIENCE, silent.read(&mut [0; 16])).await.expect("the connection ends");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_who_comes_next() {
    let (identity, former) = Identity::new();
    let server = Server::start(&identity.flags()).await;
    let mut connected = connect(&server, &former).await.unwrap();
    let renewed = identity.renew();
    until("the renewed certificate is shown", async || connect(&server, &renewed).await.is_ok()).await;
    assert!(connect(&server, &former).await.is_err());
    connected.write_all(b"GET /small HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(connected.read(&mut [0; 16]).await.unwrap() > 0, "who was connected stays so");
}

#[tokio::test]
async fn a_server_without_a_certificate_that_fits_its_key_does_not_start() {
    let (identity, _) = Identity::new();
    let (other, _) = Identity::new();
    fs::copy(&other.key, &identity.key).unwrap();
    let error = Server::start(&identity.flags()).await.failed().await;
    assert!(error.contains("is not the key of"), "{error}");
    fs::write(&identity.key, "no key").unwrap();
    let error = Server::start(&identity.flags()).await.failed().await;
    assert!(error.contains("cannot read the private key"), "{error}");
    fs::remove_file(&identity.certificate).unwrap();
    let error = Server::start(&identity.flags()).await.failed().await;
    assert!(error.contains("cannot read the certificate"), "{error}");
}
