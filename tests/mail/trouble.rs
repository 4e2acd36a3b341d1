//! What goes wrong, and whose fault it is.

use super::*;

/// More than three seconds, which is the most that an email may take here.
const BOUND: Duration = Duration::from_secs(4);

/// Sends an email, and expects an end within the bound.
async fn bounded(server: &SmtpServer, to: &str) -> Result<(), MailError> {
    let start = Instant::now();
    let result = welcome(&mailer(server), to).await;
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    result
}

#[tokio::test]
async fn an_email_that_is_refused_for_good_is_refused() {
    let server = SmtpServer::start().await;
    let why = refused(bounded(&server, "never-1@example.com").await);
    assert!(why.contains("550") && why.contains("no such mailbox"), "{why}");
    assert!(refused(bounded(&server, "spam@example.com").await).contains("looks like spam"));
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn an_email_that_is_refused_for_now_may_be_sent_later() {
    let server = SmtpServer::start().await;
    assert!(not_now(bounded(&server, "later@example.com").await).contains("greylisted"));
    not_now(bounded(&server, "full@example.com").await);
    not_now(bounded(&server, "twice@example.com").await);
    not_now(bounded(&server, "twice@example.com").await);
    bounded(&server, "twice@example.com").await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_refused_email_does_not_end_the_connection() {
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    for to in ["a@b.org", "never@b.org", "spam@b.org", "later@b.org", "full@b.org", "c@b.org"] {
        let _ = welcome(&mailer, to).await;
    }
    let used: Vec<_> = server.mails().iter().map(|mail| (mail.connection, mail.to[0].clone())).collect();
    assert_eq!(used, [(1, "a@b.org".into()), (1, "c@b.org".into())]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mailer = try_mailer(&format!("smtp://{free}"), &[]).unwrap();
    unavailable(welcome(&mailer, "a@b.org").await);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    // Names under `.invalid` never exist (RFC 2606).
    let mailer = try_mailer("smtps://mail.invalid", &["--smtp-timeout-seconds", "1"]).unwrap();
    unavailable(welcome(&mailer, "a@b.org").await);
}

#[tokio::test]
async fn a_server_that_turns_everybody_away_is_unavailable() {
    for greeting in ["554 5.3.2 not today", "421 4.3.2 too busy", "hello"] {
        let server = SmtpServer::start_with(json!({ "greeting": greeting })).await;
        unavailable(bounded(&server, "a@b.org").await);
    }
}

#[tokio::test]
async fn a_server_that_leaves_or_wants_a_login_is_unavailable_whichever_the_email() {
    let server = SmtpServer::start().await;
    unavailable(bounded(&server, "leave@example.com").await);
    unavailable(bounded(&server, "login@example.com").await);
}

#[tokio::test]
async fn a_sender_that_is_refused_is_refused_in_every_email() {
    let server = SmtpServer::start().await;
    let mailer = try_mailer(&server.url(), &["--mail-from", "forbidden@example.org"]).unwrap();
    assert!(unavailable(welcome(&mailer, "a@b.org").await).contains("not your address"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_within_the_bound() {
    let server = SmtpServer::start_with(json!({"silent": true})).await;
    unavailable(bounded(&server, "a@b.org").await);
}

#[tokio::test]
async fn a_server_that_takes_an_email_and_falls_silent_is_unavailable_within_the_bound() {
    let server = SmtpServer::start().await;
    unavailable(bounded(&server, "hang@example.com").await);
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_an_email_is_unavailable() {
    let server = SmtpServer::start().await;
    unavailable(bounded(&server, "break-1@example.com").await);
}

#[tokio::test]
async fn a_dialogue_that_was_cut_short_never_serves_another_email() {
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    let interrupted = tokio::time::timeout(Duration::from_millis(500), welcome(&mailer, "hang@b.org")).await;
    assert!(interrupted.is_err());
    welcome(&mailer, "a@b.org").await.unwrap();
    let mail = server.mail();
    assert_eq!((mail.connection, &*mail.to[0]), (2, "a@b.org"));
}

#[tokio::test]
async fn an_email_that_waits_long_for_a_connection_says_nothing_of_the_server() {
    let server = SmtpServer::start().await;
    let flags = ["--smtp-timeout-seconds", "1", "--smtp-connections", "1"];
    let mailer = try_mailer(&server.url(), &flags).unwrap();
    let later = async |to| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        welcome(&mailer, to).await
    };
    // The first holds the connection for three seconds, then the second does. The third waits for three seconds from
    // its start, which is half a second later, so that it is clear who comes first.
    let results = tokio::join!(welcome(&mailer, "hang@b.org"), later("hang@b.org"), later("hang@b.org"));
    unavailable(results.0);
    let waited = [results.1, results.2].map(|result| matches!(result, Err(MailError::NotNow(_))));
    assert_eq!(waited.iter().filter(|gave_up| **gave_up).count(), 1);
    assert_eq!(mailer.longest(), Some(Duration::from_secs(6)));
}
