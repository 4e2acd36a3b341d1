//! A query-service that is reached by https alone.

use std::fs;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use stack::{servers::temporary_folder, services::QUERY_SERVICE};

use super::ordered;
use crate::{
    harness::{World, until},
    instance::Instance,
    smtp::SmtpServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_looked_up_over_tls_where_the_machine_trusts_the_certificate() {
    let (world, smtp) = (World::start().await, SmtpServer::start().await);
    let folder = temporary_folder().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    let tls = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let nats_url = world.place.servers.nats.url_as(QUERY_SERVICE);
    let queries = world.place.query_service_with(&nats_url, &tls).await;

    let settings = vec![
        ("HEADWATER_MAIL", smtp.url().into()),
        ("HEADWATER_QUERY_URL", queries.url.replace("http://127.0.0.1", "https://localhost").into()),
        ("SSL_CERT_FILE", certificate.into()),
    ];
    let log = folder.path().join("task-worker.log");
    let worker = Instance::task_worker_with(&world.place, log, settings).await;
    let ada = world.registered("ada").await;
    ordered(&world, ada).await;
    until("ada is told of her order", async || smtp.mails().len() == 2).await;
    let confirmed = smtp.mails().into_iter().find(|mail| mail.header("Subject").contains("rder"));
    assert_eq!(confirmed.expect("a confirmation").to, ["ada@example.org"], "{}", worker.said());
}
