//! Connections that are encrypted here, where nothing before the service does it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{interval, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};

use crate::Shutdown;

/// A certificate that has been renewed is shown within this time.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// By what certificate clients know the service.
#[derive(Args, Clone, Debug)]
pub struct TlsArgs {
    /// The service's certificate, and those that lead to its authority, as PEM. With it, clients have to connect by
    /// https. Read again when it changes.
    #[arg(long, env = "HEADWATER_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// The certificate's private key, as PEM.
    #[arg(long, env = "HEADWATER_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
}

/// Encrypts connections. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// None, if connections are not to be encrypted. Keeps the certificate current until `shutdown`.
    pub fn start(args: &TlsArgs, shutdown: Shutdown) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) else { return Ok(None) };
        let files = Files { certificate: certificate.clone(), key: key.clone() };
        let provider = Arc::new(ring::default_provider());
        let identity = Arc::new(Identity { shown: RwLock::new(Arc::new(files.read(&provider)?)) });
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(identity.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let looking = keep_current(files, provider, identity);
        tokio::spawn(async move { shutdown.run_until_cancelled(looking).await });
        Ok(Some(Self(TlsAcceptor::from(Arc::new(config)))))
    }

    /// Agrees with the client on how to encrypt.
    pub(super) async fn accept(&self, stream: TcpStream, within: Duration) -> io::Result<Stream> {
        let agreed = timeout(within, self.0.accept(stream)).await;
        let agreed = agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(Stream::Encrypted(Box::new(agreed)))
    }
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn read(&self, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
        let Self { certificate, key } = self;
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain =
            chain.with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
        ensure!(!chain.is_empty(), "{} has no certificate", certificate.display());
        let private = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read the private key {}", key.display()))?;
        CertifiedKey::from_der(chain, private, provider)
            .with_context(|| format!("{} is not the key of {}", key.display(), certificate.display()))
    }

    /// When they were last written, as far as can be told.
    fn written(&self) -> [Option<SystemTime>; 2] {
        let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        [written(&self.certificate), written(&self.key)]
    }
}

/// What is shown to clients, and how it is proved to be ours.
#[derive(Debug)]
struct Identity {
    shown: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Reads the files again when they have changed. Between the change of one and that of the other they do not fit
/// together: then the former identity stays.
async fn keep_current(files: Files, provider: Arc<CryptoProvider>, identity: Arc<Identity>) {
    let mut known = files.written();
    let mut complained = false;
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let written = files.written();
        if written == known {
            continue;
        }
        match files.read(&provider) {
            Ok(renewed) => {
                *identity.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
                known = written;
                complained = false;
                tracing::info!(certificate = %files.certificate.display(), "the certificate was renewed");
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!("the certificate was changed and cannot be used: {error:#}");
            }
            Err(_) => {}
        }
    }
}

/// A client's connection.
pub enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
