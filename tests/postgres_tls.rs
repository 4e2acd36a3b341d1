//! Services reach Postgres by an encrypted connection, if their URL asks for one, and then nobody who cannot show that
//! it is their server.
//!
//! The server that the tests start is built without TLS, so that another end of the line stands before it, as a proxy
//! of a cloud does: it takes Postgres's request for TLS, and nothing that comes in the clear.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{Place, Servers, World, until};

/// What a client sends before anything else when it wants TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The encrypted way to a Postgres.
struct TlsFront {
    address: SocketAddr,
    /// Of the certificate that it shows.
    certificate: PathBuf,
    encrypted: Arc<AtomicUsize>,
    _folder: TempDir,
    _serving: AbortOnDropHandle<()>,
}

impl TlsFront {
    async fn before(postgres: &str) -> Self {
        let (folder, certificate, acceptor) = identity();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let encrypted = Arc::new(AtomicUsize::new(0));
        let (count, postgres) = (encrypted.clone(), postgres.to_owned());
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, acceptor.clone(), postgres.clone(), count.clone()));
            }
        });
        Self { address, certificate, encrypted, _folder: folder, _serving: AbortOnDropHandle::new(serving) }
    }
}

/// A certificate for 127.0.0.1 in a folder, and who can show it.
fn identity() -> (TempDir, PathBuf, TlsAcceptor) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("certificate.pem");
    std::fs::write(&certificate, cert.pem()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    (folder, certificate, TlsAcceptor::from(Arc::new(config)))
}

async fn pass_on(
    mut client: TcpStream,
    acceptor: TlsAcceptor,
    postgres: String,
    encrypted: Arc<AtomicUsize>,
) {
    let mut first = [0; 8];
    if client.read_exact(&mut first).await.is_err() || first != SSL_REQUEST {
        return;
    }
    if client.write_all(b"S").await.is_err() {
        return;
    }
    let Ok(mut client) = acceptor.accept(client).await else { return };
    let mut server = TcpStream::connect(postgres).await.unwrap();
    encrypted.fetch_add(1, Ordering::Relaxed);
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_reach_postgres_by_tls_and_nobody_in_its_place() {
    let mut place = Place::new(Servers::shared().await).await;
    let address = place.database_url.split(['@', '/']).nth(3).unwrap().to_owned();
    let front = TlsFront::before(&address).await;
    let instead = place.database_url.replace(&address, &front.address.to_string());
    let by = |mode: &str, authority: &PathBuf| {
        format!("{instead}?sslmode={mode}&sslrootcert={}", authority.display())
    };
    let (_folder, stranger, _) = identity();
    let error = PgConnection::connect(&by("verify-full", &stranger)).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = PgConnection::connect(&format!("{instead}?sslmode=disable")).await;
    assert!(error.is_err(), "it was let in without TLS");
    assert_eq!(front.encrypted.load(Ordering::Relaxed), 0);

    place.database_url = by("verify-full", &front.certificate);
    let world = World::at(place).await;
    let ada = world.registered("ada").await;
    until("the account is read", async || world.get(&format!("/accounts/{ada}")).send().await.status == 200)
        .await;
    // A projector of four views, and a query-service.
    let encrypted = front.encrypted.load(Ordering::Relaxed);
    assert!(encrypted > 5, "{encrypted} connections");
    world.verify().await;
}

#[tokio::test]
async fn who_asks_for_tls_gets_no_connection_without() {
    let servers = Servers::shared().await;
    let url = format!("{}?sslmode=require", servers.postgres.url());
    let error = PgConnection::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("does not support TLS"), "{error}");
}
