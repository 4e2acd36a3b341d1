//! What people do by hand, with the program itself.

use std::process::Output;

use serde_json::{Value, json};
use stack::ports;
use tokio::process::Command;

use super::{Office, dead, started, until_idle};
use crate::{
    harness::{Place, Servers, World, programs, until},
    smtp::SmtpServer,
};

/// What the program printed, what it complained of, and whether it succeeded.
#[derive(Debug)]
struct Said {
    out: String,
    error: String,
    code: i32,
}

/// Runs the program in the namespace of a place.
async fn by_hand(place: &Place, arguments: &[&str]) -> Said {
    by_hand_at(&place.servers.nats.url_as("task-worker"), place, arguments).await
}

/// The same, with another NATS server.
async fn by_hand_at(nats_url: &str, place: &Place, arguments: &[&str]) -> Said {
    let mut command = Command::new(programs().await.join("task-worker"));
    command.args(arguments).env("HEADWATER_NAMESPACE", &place.namespace);
    let Output { status, stdout, stderr } = command.env("NATS_URL", nats_url).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(stdout), error: text(stderr), code: status.code().unwrap() }
}

/// Two dead letters, whose worker has ended, and their ids.
async fn with_dead_letters() -> (Office, [String; 2]) {
    let mut office = Office::open().await;
    let ada = office.world.registered("never-ada").await;
    let grace = office.world.registered("spam-grace").await;
    until("both are dead", async || dead(&office.worker).await == 2).await;
    office.worker.stop().await;
    let ids = [format!("welcome-email.{ada}.1"), format!("welcome-email.{grace}.2")];
    (office, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_dead_letters_with_error_and_attempts() {
    let (office, [ada, grace]) = with_dead_letters().await;
    let place = &office.world.place;
    let said = by_hand(place, &["dead-letters", "list"]).await;
    let lines: Vec<&str> = said.out.lines().collect();
    let [first, why, second, _, sum] = lines[..] else { panic!("{said:?}") };
    assert_eq!((first, second, sum, said.code), (&*ada, &*grace, "2 of 2 dead letters", 0));
    assert!(why.contains("after 1 attempts: refused: ") && why.contains("550"), "{why}");

    let said = by_hand(place, &["dead-letters", "list", "--limit", "1", "--json"]).await;
    let letter: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&letter["policy"], &letter["position"]), (&json!("welcome-email"), &json!(1)));
    let said = by_hand(place, &["dead-letters", "list", "--policy", "order-confirmation"]).await;
    assert_eq!((&*said.out, said.code), ("0 of 0 dead letters\n", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_shown_with_its_event() {
    let (office, [ada, _]) = with_dead_letters().await;
    let said = by_hand(&office.world.place, &["dead-letters", "show", &ada]).await;
    let letter: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&letter["event"]["type"], said.code), (&json!("account.registered"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_tried_again_is_done_by_the_next_worker() {
    let (office, [ada, grace]) = with_dead_letters().await;
    let place = &office.world.place;
    let said = by_hand(place, &["dead-letters", "retry", &ada]).await;
    assert_eq!((said.out, said.code), (format!("{ada} is to be done again\n"), 0));
    let said = by_hand(place, &["dead-letters", "retry", "--all", "--policy", "welcome-email"]).await;
    assert_eq!((said.out, said.code), (format!("{grace} is to be done again\n"), 0));
    // A mail server without a memory of the bad addresses.
    let forgiving = SmtpServer::start_with(json!({"everyone": "friend"})).await;
    let worker = started(&office.world, &["--mail", &forgiving.url()]).await;
    until("both are welcomed", async || forgiving.count() == 2).await;
    assert_eq!(dead(&worker).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_is_no_dead_letter_any_more() {
    let (office, [ada, grace]) = with_dead_letters().await;
    let place = &office.world.place;
    let discard = ["dead-letters", "discard", &ada, &grace, "--reason", "no such mailbox"];
    let said = by_hand(place, &discard).await;
    assert_eq!((said.out, said.code), (format!("{ada} is discarded\n{grace} is discarded\n"), 0));
    assert_eq!(by_hand(place, &["dead-letters", "list"]).await.out, "0 of 0 dead letters\n");
    let said = by_hand(place, &discard).await;
    assert_eq!((said.out, said.code), (format!("{ada} is not dead\n{grace} is not dead\n"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_by_name() {
    let (office, [ada, _]) = with_dead_letters().await;
    let other = ada.replace(".1", ".7");
    for (arguments, words) in [
        (&["show", &*other][..], &*format!("{other} is not dead")),
        (&["show", "ada"], "'ada'"),
        (&["show", "ada"], "not the id of a task; expected like welcome-email."),
        (&["retry"], "<IDS>"),
        (&["retry", "--policy", "welcome-email"], "--all"),
        (&["discard", &ada], "--reason"),
        (&["discard", &ada, "--reason", " "], "--reason: to discard a task takes a reason"),
        (&["list", "--policy", "nonsense"], "there is no policy `nonsense`"),
        (&["retry", "--all", "--policy", "nonsense"], "there is no policy `nonsense`"),
        (&["list", "--limit", "0"], "--limit"),
    ] {
        let said = by_hand(&office.world.place, &[&["dead-letters"], arguments].concat()).await;
        assert!(said.code != 0 && said.error.contains(words), "{arguments:?}: {said:?}");
    }
    assert_eq!(dead(&started(&office.world, &["--mail", "null:"]).await).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_every_command_ends_and_says_so() {
    let place = Place::new(Servers::shared().await).await;
    let nobody = format!("nats://127.0.0.1:{}", ports::next_free(0).unwrap());
    for arguments in [&["dead-letters", "list"], &["policies", "list"], &["policies", "restart"]] {
        let said = by_hand_at(&nobody, &place, arguments).await;
        assert!(said.code != 0 && said.error.contains("NATS does not answer"), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_listed_and_started_anew() {
    let world = World::start().await;
    let mut worker = started(&world, &["--mail", "null:"]).await;
    worker.stop().await;
    for name in ["ada", "grace", "edsger"] {
        world.registered(name).await;
    }
    let seen = |position: u64| {
        format!(
            "order-confirmation has seen position {position}\nwelcome-email has seen position {position}\n"
        )
    };
    let said = by_hand(&world.place, &["policies", "list"]).await;
    assert_eq!((said.out, said.code), (seen(0), 0));
    let said = by_hand(&world.place, &["policies", "restart"]).await;
    assert_eq!((said.out, said.code), (seen(3), 0));
    let said = by_hand(&world.place, &["policies", "restart", "--after", "1"]).await;
    assert_eq!((said.out, said.code), (seen(1), 0));
    let said = by_hand(&world.place, &["policies", "restart", "--after", "4"]).await;
    assert!(said.code != 0 && said.error.contains("--after"), "{said:?}");
    assert_eq!(by_hand(&world.place, &["policies", "list"]).await.out, seen(1));

    let smtp = SmtpServer::start().await;
    let worker = started(&world, &["--mail", &smtp.url()]).await;
    until("those after the new start were welcomed", async || smtp.count() == 2).await;
    until_idle(&world, &worker).await;
    assert!(smtp.mails().iter().all(|mail| mail.to != ["ada@example.org"]));
    // A worker that runs notices, too.
    by_hand(&world.place, &["policies", "restart", "--after", "0"]).await;
    until("all were welcomed again", async || smtp.count() == 5).await;
}
