use super::*;
use crate::harness::{World, until};

#[tokio::test]
async fn verify_finds_a_row_that_was_altered_and_one_that_was_deleted() {
    let world = World::start().await;
    let (ada, bob) = (world.registered("ada").await, world.registered("bob").await);
    for account in [ada, bob] {
        world.placed(account, 100, "2026-01-01").await;
    }
    world.verify().await;
    let verify = async || {
        let mut command = Command::new(programs().await.join("replay"));
        command.args(["verify", "--namespace", &world.place.namespace]);
        command
            .env("NATS_URL", world.place.servers.nats.url())
            .env("DATABASE_URL", &world.place.database_url);
        let output = command.kill_on_drop(true).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = verify().await;
    assert!(code == Some(0) && said.ends_with("all is well\n"), "{said}");

    let mut database = world.place.database().await;
    sqlx::query("update customers set spent_cents = 101 where id = $1::uuid")
        .bind(ada.to_string())
        .execute(&mut database)
        .await
        .unwrap();
    sqlx::query("delete from accounts where id = $1::uuid")
        .bind(bob.to_string())
        .execute(&mut database)
        .await
        .unwrap();
    let (code, said) = verify().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("customers {ada}\n  the log says  {{\"spent_cents\":100}}\n  the view says {{\"spent_cents\":101}}")), "{said}");
    assert!(
        said.contains(&format!("accounts {bob}\n  the log says  {{"))
            && said.contains("the view says no row"),
        "{said}"
    );
    assert!(said.ends_with("NOT WELL\n"), "{said}");
}

#[tokio::test]
async fn a_history_tells_what_each_event_changed() {
    let desk = Desk::with_events(20).await;
    let id = uuid::Uuid::from_u128(11).to_string();
    let said = desk.fine(&["history", "account", &id]).await.out;
    for words in [
        "unregistered → active",
        "name: – → \"User 11\"",
        "active → closed",
        "email: \"user11@example.org\" → \"new11@example.org\"",
    ] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    let from = desk.fine(&["history", "account", &id, "--from", "14", "--json"]).await.out;
    let first: Value = serde_json::from_str(from.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"]["position"], "14");
    assert_eq!(first["before"]["active"]["email"], "user11@example.org");
    assert_eq!(first["after"]["active"]["email"], "new11@example.org");
    let nobody = desk.run(&["history", "order", &id]).await;
    assert!(nobody.code == Some(1) && nobody.err.contains("nothing has happened"), "{nobody:?}");
}

#[tokio::test]
async fn streams_are_counted_by_type() {
    let desk = Desk::with_events(30).await;
    let said = desk.fine(&["streams", "--json"]).await.out;
    let streams: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let placed = streams.iter().find(|stream| stream["event_type"] == "order.placed").unwrap();
    assert_eq!((&placed["events"], &placed["aggregates"]), (&json!(12), &json!(12)));
    assert_eq!((&placed["first_position"], &placed["last_position"]), (&json!(3), &json!(28)));
    assert_eq!(streams.iter().map(|stream| stream["events"].as_u64().unwrap()).sum::<u64>(), 30);
    let table = desk.fine(&["streams"]).await.out;
    assert!(table.contains("order.placed") && table.contains("30 events"), "{table}");
}

#[tokio::test]
async fn tail_shows_what_is_new_and_meant_and_ends_with_its_reader() {
    let mut desk = Desk::with_events(10).await;
    let mut tail = desk.command(&["tail", "--type", "order.placed", "--json", "--from", "1"]).await;
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let out = tail.stdout.take().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    let mut positions = Vec::new();
    for _ in 0..4 {
        let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        positions.push(line["position"].as_str().unwrap().to_owned());
    }
    desk.append_story(3).await;
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    positions.push(line["position"].as_str().unwrap().to_owned());
    assert_eq!(positions, ["3", "5", "7", "8", "13"]);
    // Its reader goes, and nothing happens that it could fail to write.
    drop(lines);
    let mut status = None;
    until("tail ends", async || {
        status = tail.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.unwrap().code(), Some(0));
}
