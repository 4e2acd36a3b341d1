//! Keys that come, go, and cannot be had.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use clap::Parser;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::StatusCode;
use service_kit::Shutdown;
use stack::servers::temporary_folder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::PrivatePkcs8KeyDer},
};
use uuid::Uuid;

use crate::{
    harness::{Call, Place, Servers, Service, until},
    instance::Instance,
    issuer::{AUDIENCE, ISSUER, Key, claims, flags, key_set},
};

/// An issuer's page of keys, that counts who looks at it.
#[derive(Clone)]
struct Page {
    url: String,
    answer: Arc<Mutex<String>>,
    looks: Arc<AtomicUsize>,
}

impl Page {
    async fn of(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let page = Self { url, answer: Default::default(), looks: Default::default() };
        page.publish(keys);
        let serving = page.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = serving.answer.lock().unwrap().clone();
                let mut head = vec![0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                serving.looks.fetch_add(1, Ordering::SeqCst);
            }
        });
        page
    }

    fn publish(&self, keys: &[&Key]) {
        self.says("200 OK", &key_set(keys.iter().copied()));
    }

    fn says(&self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nlocation: /moved\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        *self.answer.lock().unwrap() = answer;
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    async fn is_looked_at_again(&self) {
        let before = self.looks();
        // One may have begun with what was there before.
        until("the keys were looked at again", async || self.looks() >= before + 2).await;
    }
}

struct Gate {
    queries: Service,
    _place: Place,
}

impl Gate {
    async fn before(page: &Page, refresh_seconds: &str) -> Self {
        let mut flags = flags(&page.url);
        flags.extend(["--auth-jwks-refresh-seconds", refresh_seconds].map(str::to_owned));
        let place = Place::new(Servers::shared().await).await.told(flags);
        let queries = place.query_service().await;
        let gate = Self { queries, _place: place };
        until("the service is there", async || gate.is_ready().await).await;
        gate
    }

    async fn is_ready(&self) -> bool {
        let answer = Call::new(reqwest::Client::new().get(format!("{}/health/ready", self.queries.url)));
        answer.send().await.status == StatusCode::OK
    }

    async fn takes(&self, token: &str) -> bool {
        let answer = Call::new(reqwest::Client::new().get(&self.queries.url)).token(token).send().await;
        match answer.status {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            other => panic!("{other}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn keys_are_replaced_while_the_service_runs() {
    let (old, new) = (Key::ed25519("old"), Key::p256("new"));
    let (by_old, by_new) = (old.token(&claims("ada", "")), new.token(&claims("ada", "")));
    let page = Page::of(&[&old]).await;
    let gate = Gate::before(&page, "1").await;
    assert!(gate.takes(&by_old).await && !gate.takes(&by_new).await);
    page.publish(&[&old, &new]);
    until("the new key is taken", async || gate.takes(&by_new).await).await;
    assert!(gate.takes(&by_old).await);
    page.publish(&[&new]);
    until("the old key is not taken any more", async || !gate.takes(&by_old).await).await;
    assert!(gate.takes(&by_new).await);
    // Another key of the same name is another key.
    page.publish(&[&Key::p256("new")]);
    until("the key's name alone is not enough", async || !gate.takes(&by_new).await).await;
}

#[tokio::test]
async fn keys_stay_while_others_cannot_be_had() {
    let key = Key::ed25519("a");
    let token = key.token(&claims("ada", ""));
    let page = Page::of(&[&key]).await;
    let gate = Gate::before(&page, "1").await;
    for (status, body) in [("302 Found", ""), ("200 OK", "{\"keys\": []}")] {
        page.says(status, body);
        page.is_looked_at_again().await;
        assert!(gate.takes(&token).await, "{status} {body}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_is_looked_for_but_not_for_every_token() {
    let (old, new) = (Key::ed25519("old"), Key::ed25519("new"));
    let page = Page::of(&[&old]).await;
    let gate = Gate::before(&page, "86400").await;
    page.publish(&[&old, &new]);
    let by_new = new.token(&claims("ada", ""));
    until("the new key is found", async || {
        let unknown = Key::ed25519(&Uuid::now_v7().to_string());
        assert!(!gate.takes(&unknown.token(&claims("eve", ""))).await);
        gate.takes(&by_new).await
    })
    .await;
    // At the start, and for a token with an unknown key; the next may come some seconds later.
    assert_eq!(page.looks(), 2);
}

/// A page of keys over TLS, whose certificate nobody vouches for but the file beside it.
async fn encrypted(keys: &[&Key], certificate: &Path) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(certificate, cert.pem()).unwrap();
    let private = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.unwrap().with_no_client_auth().with_single_cert(vec![cert.der().clone()], private.into());
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    let keys = key_set(keys.iter().copied());
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
    tokio::spawn(async move {
        loop {
            // Whoever does not trust us goes away again. The connection ends without a farewell, as many do.
            if let Ok(mut stream) = acceptor.accept(listener.accept().await.unwrap().0).await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.flush().await;
            }
        }
    });
    url
}

#[tokio::test]
async fn keys_come_encrypted_from_whom_the_machine_trusts() {
    let key = Key::ed25519("a");
    let place = Place::with(Servers::shared().await, format!("t{}", Uuid::now_v7().simple()), String::new());
    let folder = temporary_folder().unwrap();
    let certificate = folder.path().join("authority.pem");
    let url = encrypted(&[&key], &certificate).await;

    let ours = ["service", "--database-url", "postgres://nobody@127.0.0.1:1/none"].map(str::to_owned);
    let config = query_service::Config::parse_from(ours.into_iter().chain(flags(&url)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = query_service::serve(listener, config, Shutdown::new()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("certificate"), "{refused:#}");

    let settings = vec![
        ("HEADWATER_AUTH_JWKS", url.into()),
        ("HEADWATER_AUTH_ISSUER", ISSUER.into()),
        ("HEADWATER_AUTH_AUDIENCE", AUDIENCE.into()),
        ("SSL_CERT_FILE", certificate.into()),
    ];
    let service = Instance::start_with(&place, &folder.path().join("state"), settings).await;
    let close = reqwest::Client::new().post(format!("{}/accounts/{}/close", service.url, Uuid::now_v7()));
    let answer = Call::new(close).token(&key.token(&claims("ada", "account:close:any"))).send().await;
    assert_eq!(answer.problem(), (404, "account-not-registered"));
    service.stop().await;
}
