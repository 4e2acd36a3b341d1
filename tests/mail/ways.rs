//! Connections that are used again, and emails that do not go over SMTP.

use tokio::time;

use super::*;

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    for _ in 0..3 {
        welcome(&mailer, "a@b.org").await.unwrap();
    }
    let used: Vec<_> = server.mails().iter().map(|mail| mail.connection).collect();
    assert_eq!(used, [1, 1, 1]);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced() {
    let server = SmtpServer::start_with(json!({"emails_per_connection": 2})).await;
    let mailer = mailer(&server);
    for _ in 0..5 {
        welcome(&mailer, "a@b.org").await.unwrap();
    }
    let used: Vec<_> = server.mails().iter().map(|mail| mail.connection).collect();
    assert_eq!(used, [1, 1, 2, 2, 3]);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_closed() {
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    welcome(&mailer, "a@b.org").await.unwrap();
    time::pause();
    time::sleep(Duration::from_secs(31)).await;
    time::resume();
    welcome(&mailer, "a@b.org").await.unwrap();
    let used: Vec<_> = server.mails().iter().map(|mail| mail.connection).collect();
    assert_eq!(used, [1, 2]);
}

#[tokio::test]
async fn there_are_never_more_connections_than_allowed() {
    let server = SmtpServer::start().await;
    let mailer = try_mailer(&server.url(), &["--smtp-connections", "3"]).unwrap();
    let emails = iter::repeat_with(|| welcome(&mailer, "a@b.org")).take(30);
    for sent in futures::future::join_all(emails).await {
        sent.unwrap();
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 30);
    assert_eq!(mails.iter().map(|mail| mail.connection).max(), Some(3));
}

#[tokio::test]
async fn the_server_is_greeted_with_the_senders_domain_or_as_its_url_says() {
    let server = SmtpServer::start().await;
    welcome(&mailer(&server), "a@b.org").await.unwrap();
    let url = format!("{}/client.example.net", server.url());
    welcome(&try_mailer(&url, &[]).unwrap(), "a@b.org").await.unwrap();
    let names: Vec<_> = server.mails().into_iter().map(|mail| mail.greeted_as).collect();
    assert_eq!(names, ["example.org", "client.example.net"]);
}

#[tokio::test]
async fn each_email_becomes_a_file_that_its_repeat_replaces() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("not/there/yet");
    let mailer = try_mailer(&format!("file:{}", folder.display()), &[]).unwrap();
    welcome(&mailer, "first@b.org").await.unwrap();
    welcome(&mailer, "second@b.org").await.unwrap();

    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["welcome-email.7.eml"]);
    let text = fs::read_to_string(folder.join("welcome-email.7.eml")).unwrap();
    assert!(text.contains("To: second@b.org\r\n") && text.contains("multipart/alternative"), "{text}");
}

#[tokio::test]
async fn a_folder_that_is_gone_is_no_fault_of_the_email() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("mail");
    let mailer = try_mailer(&format!("file:{}", folder.display()), &[]).unwrap();
    fs::remove_dir(&folder).unwrap();
    unavailable(welcome(&mailer, "a@b.org").await);
}

#[tokio::test]
async fn emails_that_go_nowhere_are_made_all_the_same() {
    let mailer = try_mailer("null:", &[]).unwrap();
    welcome(&mailer, "a@b.org").await.unwrap();
    refused(send(&mailer, "welcome-email", "a@b.org", json!({})).await);
}
