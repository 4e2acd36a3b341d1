//! Who gets into NATS by an encrypted connection: services as clients, and servers as each other's routes.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use service_kit::nats::{NatsArgs, connect_now};
use stack::servers::{Nats, NatsCluster, ServerConfig, temporary_folder};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_service_connects_by_tls_and_to_nobody_else() {
    let folder = temporary_folder().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "include ./server.conf\ntls {{ cert_file: '{}', key_file: '{}' }}\n",
        certificate.display(),
        key.display()
    );
    let config = |name: &str| ServerConfig::within(folder.path().join(name)).unwrap();
    let encrypted = Nats::start_configured(config("encrypted"), &tls).await.unwrap();
    let plain = Nats::start(config("plain")).await.unwrap();
    let connect = async |server: &Nats, nats_ca_file| {
        let args = NatsArgs { nats_url: server.url_as("replay"), nats_password_file: None, nats_ca_file };
        connect_now(args, "replay").await
    };

    let client = connect(&encrypted, Some(certificate.clone())).await.unwrap();
    client.flush().await.unwrap();
    assert!(connect(&encrypted, None).await.is_err(), "nobody vouches for this server");
    assert!(connect(&plain, Some(certificate)).await.is_err(), "the password would travel in the clear");
    connect(&plain, None).await.unwrap();
}

/// What a stranger shows to a server's port for routes.
struct Stranger<'a> {
    certificate_of: Option<&'a Path>,
    password: &'a str,
}

#[tokio::test]
async fn a_stranger_is_refused_at_the_routes() {
    let folder = temporary_folder().unwrap();
    let nodes = ["one", "two", "three"].map(|name| folder.path().join(name));
    let configs = nodes.iter().map(|node| ServerConfig::within(node.clone()).unwrap()).collect();
    let cluster = NatsCluster::start(configs).await.unwrap();
    let passwords: serde_json::Value =
        serde_json::from_slice(&fs::read(nodes[0].join("passwords.json")).unwrap()).unwrap();
    let password = passwords["routes"].as_str().unwrap();
    let url = format!("{}/varz", cluster.nodes[0].monitor_url());
    let varz: serde_json::Value =
        serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap();
    let port = u16::try_from(varz["cluster"]["cluster_port"].as_u64().unwrap()).unwrap();
    let answer = async |stranger: Stranger<'_>| {
        let said =
            timeout(PATIENCE, greet(port, &nodes[0], &stranger)).await.expect("it is answered in time");
        said.unwrap_or_else(|error| error.to_string())
    };

    let known = answer(Stranger { certificate_of: Some(&nodes[1]), password }).await;
    assert_eq!(known, "PONG");
    let nameless = answer(Stranger { certificate_of: None, password }).await;
    assert!(nameless.contains("CertificateRequired"), "{nameless}");
    let guessing = answer(Stranger { certificate_of: Some(&nodes[1]), password: "guessed" }).await;
    assert!(guessing.contains("Authorization Violation"), "{guessing}");
    let foreign = temporary_folder().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(foreign.path().join("certificate.pem"), cert.pem()).unwrap();
    fs::write(foreign.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
    let foreign = answer(Stranger { certificate_of: Some(foreign.path()), password }).await;
    assert!(foreign.contains("UnknownCA") || foreign.contains("BadCertificate"), "{foreign}");
}

/// Says to be another server, and gives what it is answered in the end.
async fn greet(port: u16, node: &Path, stranger: &Stranger<'_>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(node.join("authority.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match stranger.certificate_of {
        None => config.with_no_client_auth(),
        Some(folder) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap(),
            )
            .unwrap(),
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (reading, mut writing) = tokio::io::split(stream);
    let said = serde_json::json!({"user": "routes", "pass": stranger.password, "name": "stranger", "cluster": "headwater", "server": "stranger"});
    writing.write_all(format!("CONNECT {said}\r\nPING\r\n").as_bytes()).await?;
    // Whoever has shown a certificate is told about the server, and then whether its password is right.
    let mut lines = BufReader::new(reading).lines();
    let mut last = String::new();
    while let Some(line) = lines.next_line().await? {
        last = line;
        if last.starts_with("PONG") || last.starts_with("-ERR") {
            break;
        }
    }
    Ok(last)
}
