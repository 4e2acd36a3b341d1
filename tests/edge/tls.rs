//! HTTPS, with the certificate that stands in the edge's folder.

use std::{fs, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use stack::servers::temporary_folder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::site::{EU, Site};

#[tokio::test]
async fn clients_are_served_over_tls_and_may_choose_http_2() {
    let certificates = temporary_folder().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["edge.test".to_owned()]).unwrap();
    fs::write(certificates.path().join("certificate.pem"), cert.pem()).unwrap();
    fs::write(certificates.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
    let folder = certificates.path().to_owned();
    let site = Site::start_with(1, &[EU], |config| config.tls_folder = Some(folder)).await;

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    for protocol in ["h2", "http/1.1"] {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let stream = TcpStream::connect(site.edge.url().replace("https://", "")).await.unwrap();
        let name = ServerName::try_from("edge.test").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        if protocol == "http/1.1" {
            let request = b"GET /queries/ HTTP/1.1\r\nhost: edge.test\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
}
