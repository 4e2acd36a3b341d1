//! TLS and logins.

use super::*;
use crate::smtp::Certificate;

async fn server(certificate: &Certificate, tls: &str) -> SmtpServer {
    SmtpServer::start_with(certificate.options(tls)).await
}

/// A mailer that trusts it.
fn trusted(certificate: &Certificate, url: &str) -> Mailer {
    let path = certificate.path();
    try_mailer(url, &["--smtp-ca", path.to_str().unwrap(), "--smtp-timeout-seconds", "1"]).unwrap()
}

fn url(server: &SmtpServer, tls: &str) -> String {
    format!("smtp://localhost:{}?tls={tls}", server.port)
}

#[tokio::test]
async fn starttls_secures_the_connection() {
    let certificate = Certificate::make();
    let server = server(&certificate, "required").await;
    for tls in ["required", "opportunistic"] {
        welcome(&trusted(&certificate, &url(&server, tls)), "a@b.org").await.unwrap();
    }
    assert_eq!(server.mails().iter().filter(|mail| mail.is_encrypted).count(), 2);
}

#[tokio::test]
async fn tls_from_the_start_secures_the_connection() {
    let certificate = Certificate::make();
    let server = server(&certificate, "implicit").await;
    welcome(&trusted(&certificate, &format!("smtps://localhost:{}", server.port)), "a@b.org").await.unwrap();
    assert!(server.mail().is_encrypted);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_unavailable() {
    let certificate = Certificate::make();
    let (starttls, implicit) =
        (server(&certificate, "offered").await, server(&certificate, "implicit").await);
    for url in [
        url(&starttls, "required"),
        url(&starttls, "opportunistic"),
        format!("smtps://localhost:{}", implicit.port),
    ] {
        let why = unavailable(welcome(&try_mailer(&url, &[]).unwrap(), "a@b.org").await);
        assert!(why.contains("certificate"), "{why}");
    }
    assert!(starttls.mails().is_empty() && implicit.mails().is_empty());
}

#[tokio::test]
async fn a_certificate_of_another_host_is_unavailable() {
    let certificate = Certificate::make();
    let server = server(&certificate, "offered").await;
    let mailer = trusted(&certificate, &format!("smtp://127.0.0.1:{}?tls=required", server.port));
    let why = unavailable(welcome(&mailer, "a@b.org").await);
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn where_tls_is_required_nothing_goes_without_it() {
    let server = SmtpServer::start().await;
    let why = unavailable(welcome(&try_mailer(&url(&server, "required"), &[]).unwrap(), "a@b.org").await);
    assert!(why.contains("STARTTLS"), "{why}");
    assert!(server.mails().is_empty());

    welcome(&try_mailer(&url(&server, "opportunistic"), &[]).unwrap(), "a@b.org").await.unwrap();
    assert!(!server.mail().is_encrypted);
}

#[tokio::test]
async fn a_server_that_demands_tls_and_does_not_get_it_is_unavailable() {
    let server = server(&Certificate::make(), "required").await;
    let why = unavailable(welcome(&mailer(&server), "a@b.org").await);
    assert!(why.contains("530"), "{why}");
}

#[tokio::test]
async fn tls_that_is_none_is_unavailable() {
    let certificate = Certificate::make();
    let server = server(&certificate, "broken").await;
    unavailable(welcome(&trusted(&certificate, &url(&server, "required")), "a@b.org").await);
}

#[tokio::test]
async fn who_logs_in_with_the_right_password_may_send() {
    let server = SmtpServer::start_with(json!({"user": "me@example.org", "password": "p/ss#"})).await;
    let url = format!("smtp://me%40example.org:p%2Fss%23@127.0.0.1:{}", server.port);
    welcome(&try_mailer(&url, &[]).unwrap(), "a@b.org").await.unwrap();
    assert_eq!(server.mail().user.as_deref(), Some("me@example.org"));
}

#[tokio::test]
async fn a_login_that_is_refused_or_missing_is_the_servers_matter_and_no_emails() {
    let server = SmtpServer::start_with(json!({"user": "me", "password": "right"})).await;
    let wrong = format!("smtp://me:wrong@127.0.0.1:{}", server.port);
    let why = unavailable(welcome(&try_mailer(&wrong, &[]).unwrap(), "a@b.org").await);
    assert!(why.contains("535") && !why.contains("wrong"), "{why}");
    let why = unavailable(welcome(&mailer(&server), "a@b.org").await);
    assert!(why.contains("530"), "{why}");

    let open = SmtpServer::start().await;
    let needless = format!("smtp://me:right@127.0.0.1:{}", open.port);
    unavailable(welcome(&try_mailer(&needless, &[]).unwrap(), "a@b.org").await);
}

#[test]
fn a_file_without_certificates_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, "hello").unwrap();
    for path in [file, folder.path().join("missing.pem")] {
        let error = try_mailer("smtps://localhost", &["--smtp-ca", path.to_str().unwrap()]).err().unwrap();
        assert!(format!("{error:#}").contains("--smtp-ca"), "{error:#}");
    }
}
