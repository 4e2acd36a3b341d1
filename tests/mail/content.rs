//! What stands in an email.

use super::*;

#[tokio::test]
async fn a_welcome_email_has_a_text_and_then_html() {
    let server = SmtpServer::start().await;
    welcome(&mailer(&server), "ada@example.com").await.unwrap();

    let mail = server.mail();
    assert_eq!((&*mail.from, &mail.to[..]), ("shop@example.org", &["ada@example.com".to_owned()][..]));
    assert_eq!(mail.header("From"), "Headwater <shop@example.org>");
    assert_eq!(mail.header("To"), "ada@example.com");
    assert_eq!(mail.header("Subject"), "Welcome, Ada Lovelace");
    assert_eq!(mail.header("MIME-Version"), "1.0");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("Message-ID"), "<welcome-email.7@example.org>");
    assert!(mail.header("Date").ends_with("+0000"));
    assert_eq!(mail.kind, "multipart/alternative");
    let kinds: Vec<_> = mail.parts.iter().map(|part| (&*part.0, &*part.1)).collect();
    assert_eq!(kinds, [("text/plain", "utf-8"), ("text/html", "utf-8")]);
    assert!(mail.parts[0].2.starts_with("Hello Ada Lovelace,\n"), "{}", mail.parts[0].2);
    assert!(mail.parts[1].2.contains("<strong>ada</strong>"), "{}", mail.parts[1].2);
}

#[tokio::test]
async fn who_gave_no_name_is_greeted_by_username() {
    let server = SmtpServer::start().await;
    send(&mailer(&server), "welcome-email", "a@b.org", json!({"username": "ada", "name": null}))
        .await
        .unwrap();
    assert_eq!(server.mail().header("Subject"), "Welcome, ada");
}

#[tokio::test]
async fn an_order_is_confirmed_with_all_that_was_ordered() {
    let values = json!({
        "order_id": "0198c7a2-0000-7000-8000-000000000001", "quantity": 2, "amount": "29.33 USD",
        "placed_at": "2026-01-01T12:00:00Z", "username": "ada", "name": null,
    });
    let server = SmtpServer::start().await;
    send(&mailer(&server), "order-confirmation", "a@b.org", values).await.unwrap();

    let mail = server.mail();
    assert_eq!(mail.header("Subject"), "We have your order of 29.33 USD");
    for part in &mail.parts {
        for value in ["0198c7a2-0000-7000-8000-000000000001", "29.33 USD", "2026-01-01, 12:00 UTC", "ada"] {
            assert!(part.2.contains(value), "{value} in {}", part.2);
        }
    }
}

#[tokio::test]
async fn any_name_arrives_as_it_was_written() {
    let name = "Zoë 東京 \u{1f600} <b>&\"'";
    let server = SmtpServer::start().await;
    send(&mailer(&server), "welcome-email", "a@b.org", json!({"username": "zoe", "name": name}))
        .await
        .unwrap();

    let mail = server.mail();
    assert_eq!(mail.header("Subject"), format!("Welcome, {name}"));
    assert!(mail.parts[0].2.starts_with(&format!("Hello {name},\n")), "{}", mail.parts[0].2);
    let escaped = "Zoë 東京 \u{1f600} &lt;b&gt;&amp;&quot;&#x27;";
    assert!(mail.parts[1].2.contains(escaped), "{}", mail.parts[1].2);
    assert!(mail.raw.is_ascii());
}

#[tokio::test]
async fn no_value_begins_a_header() {
    let evil = "Ada\r\nBcc: x@y.org\r\n\r\nHello\n.\r\nRSET";
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    send(&mailer, "welcome-email", "a@b.org", json!({"username": evil, "name": evil})).await.unwrap();

    let mail = server.mail();
    assert_eq!(mail.to, ["a@b.org"]);
    let expected =
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"];
    let names: Vec<_> = mail.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, expected);
    assert_eq!(mail.header("Subject"), "Welcome, Ada Bcc: x@y.org Hello . RSET");
    assert_eq!(mail.parts.len(), 2);
    assert!(mail.parts[0].2.contains("\n.\nRSET"), "a line with a dot is no end: {}", mail.parts[0].2);
}

#[tokio::test]
async fn an_id_that_could_be_more_than_an_id_is_refused() {
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    for id in ["", "../x", "a>\r\nBcc: x@y.org"] {
        let (to, values) = (address("a@b.org"), json!({"username": "ada", "name": null}));
        let mail = Mail { template: "welcome-email", to: &to, values: &values, id };
        refused(mailer.send(&mail).await);
    }
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_missing_value_and_an_unknown_template_are_refused_before_the_server_is_asked() {
    let mailer = try_mailer("smtp://127.0.0.1:9", &[]).unwrap();
    let why = refused(send(&mailer, "welcome-email", "a@b.org", json!({"username": "ada"})).await);
    assert!(why.contains("welcome-email/subject.txt"), "{why}");
    refused(send(&mailer, "farewell-email", "a@b.org", json!({})).await);
}

#[tokio::test]
async fn answers_go_where_the_settings_say() {
    let server = SmtpServer::start().await;
    let mailer = try_mailer(&server.url(), &["--mail-reply-to", "Help <help@example.org>"]).unwrap();
    welcome(&mailer, "a@b.org").await.unwrap();
    assert_eq!(server.mail().header("Reply-To"), "Help <help@example.org>");
}

#[tokio::test]
async fn a_repeat_has_the_same_message_id() {
    let server = SmtpServer::start().await;
    for _ in 0..2 {
        welcome(&mailer(&server), "a@b.org").await.unwrap();
    }
    let ids: Vec<_> = server.mails().iter().map(|mail| mail.header("Message-ID").to_owned()).collect();
    assert_eq!(ids, ["<welcome-email.7@example.org>"; 2]);
}

#[tokio::test]
async fn an_address_outside_of_ascii_is_used_as_far_as_it_can_be() {
    let server = SmtpServer::start().await;
    let mailer = mailer(&server);
    welcome(&mailer, "ada@bücher.example").await.unwrap();
    welcome(&mailer, "zoë@example.com").await.unwrap();

    let mails = server.mails();
    assert_eq!((&*mails[0].to[0], mails[0].options.len()), ("ada@xn--bcher-kva.example", 0));
    assert_eq!(mails[1].to, ["zoë@example.com"]);
    assert!(mails[1].options.contains(&"SMTPUTF8".to_owned()), "{:?}", mails[1].options);
}

#[tokio::test]
async fn an_address_that_the_server_cannot_be_told_is_refused() {
    let server = SmtpServer::start_with(json!({"utf8": false})).await;
    let mailer = mailer(&server);
    for to in ["zoë@example.com", "zoë@example.com"] {
        assert!(refused(welcome(&mailer, to).await).contains("SMTPUTF8"));
    }
    welcome(&mailer, "zoe@example.com").await.unwrap();
    assert_eq!(server.mail().connection, 1);
}

#[test]
fn a_template_that_is_missing_stops_the_start() {
    let config = Config::try_parse_from(["task-worker", "--mail", "null:"]).unwrap();
    let error = Mailer::new(&config.mail, ["no-such-policy"]).err().unwrap();
    assert!(format!("{error:#}").contains("no-such-policy/subject.txt"), "{error:#}");
}

#[tokio::test]
async fn a_folder_of_templates_replaces_the_built_in_ones() {
    let folder = tempfile::tempdir().unwrap();
    for template in templates() {
        let place = folder.path().join(template);
        fs::create_dir(&place).unwrap();
        for (file, text) in [("subject.txt", "Hi {{ username }}"), ("body.txt", "Hi"), ("body.html", "<p>Hi")]
        {
            fs::write(place.join(file), text).unwrap();
        }
    }
    let server = SmtpServer::start().await;
    let path = folder.path().to_str().unwrap();
    welcome(&try_mailer(&server.url(), &["--mail-templates", path]).unwrap(), "a@b.org").await.unwrap();
    assert_eq!(server.mail().header("Subject"), "Hi ada");

    fs::write(folder.path().join("welcome-email/body.html"), "{{ oops").unwrap();
    let error = try_mailer(&server.url(), &["--mail-templates", path]).err().unwrap();
    assert!(format!("{error:#}").contains("welcome-email/body.html does not compile"), "{error:#}");
}
