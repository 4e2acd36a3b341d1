//! Imports: many commands in one request, one result a line.

mod lines;

use std::{sync::Arc, time::Duration};

use clap::Parser as _;
use futures::future::join_all;
use serde_json::{Value, json};
use service_kit::Shutdown;
use stack::servers::temporary_folder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::harness::{Place, Servers, World};
use lines::{
    A_WHILE, Open, account, all_accepted, body, history, import, in_order, parse, place, read, register,
};

#[tokio::test]
async fn every_line_has_its_result_in_order() {
    let world = World::start().await;
    let rename = |revision: u64| {
        json!({"aggregate": "accounts", "id": account(1), "command": "rename", "if_match": revision,
               "correlation_id": "import-7", "data": {"name": "Ada"}})
    };
    let close = json!({"aggregate": "accounts", "id": account(1), "command": "close"});
    let lines = [register(1), place(1), rename(1), rename(1), close, place(1), place(2), register(1)];
    let (results, summary) = read(&import(&world, body(&lines)).await);

    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 200, 412, 200, 201, 422, 201]);
    assert_eq!(summary, json!({"done": true, "commands": 8, "accepted": 6, "failed": 2}));
    assert_eq!(
        results[0],
        json!({"line": 1, "status": 201, "id": account(1), "revision": 1, "position": 1,
               "events": ["account.registered"]})
    );
    assert_eq!((&results[3]["line"], &results[3]["code"]), (&json!(4), &json!("revision-mismatch")));
    assert_eq!((&results[6]["line"], &results[6]["code"]), (&json!(7), &json!("account-not-active")));
    assert_eq!((&results[5]["id"], &results[7]["position"]), (&results[1]["id"], &json!(1)), "repeats");
    assert_eq!(
        world.event_types().await,
        ["account.registered", "order.placed", "account.renamed", "account.closed"]
    );
    world.verify().await;
}

#[tokio::test]
async fn a_broken_line_fails_alone() {
    let world = World::start().await;
    let too_long = "x".repeat(300_000);
    let mut body: Vec<u8> = Vec::new();
    for line in [
        register(1).to_string().as_bytes(),
        b"{\"aggregate\": \"accounts\"",
        b"  ",
        b"\xff\xfe",
        too_long.as_bytes(),
        b"{\"aggregate\":\"accounts\",\"command\":\"close\",\"why\":1}",
        register(2).to_string().as_bytes(),
    ] {
        body.extend_from_slice(line);
        body.extend_from_slice(b"\r\n");
    }
    // The last line lacks its newline.
    body.extend_from_slice(register(3).to_string().as_bytes());
    let (results, summary) = read(&import(&world, body).await);
    let told = |result: &Value| (result["line"].as_u64().unwrap(), result["status"].as_u64().unwrap());
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>(),
        [(1, 201), (2, 400), (4, 400), (5, 413), (6, 400), (7, 201), (8, 201)]
    );
    let codes: Vec<_> = results.iter().filter_map(|result| result["code"].as_str()).collect();
    assert_eq!(codes, ["malformed-json", "malformed-json", "body-too-large", "invalid-field"]);
    assert!(results[4]["detail"].as_str().unwrap().contains("`why`"), "{}", results[4]);
    assert_eq!(summary, json!({"done": true, "commands": 7, "accepted": 3, "failed": 4}));
    assert_eq!(world.event_types().await.len(), 3);
}

#[tokio::test]
async fn an_import_of_nothing_is_done() {
    let world = World::start().await;
    for body in ["", "\n\n"] {
        assert_eq!(read(&import(&world, body).await), (vec![], all_accepted(0)));
    }
}

#[tokio::test]
async fn an_import_says_what_it_takes() {
    let world = World::start().await;
    let form = world.post("/commands").header("Content-Type", "application/json").body(body(&history(1)));
    let form = form.send().await;
    assert_eq!(form.problem(), (415, "unsupported-media-type"));
    assert!(form.text.contains("application/x-ndjson"), "{}", form.text);
    for (header, value) in [("Idempotency-Key", "k1"), ("If-Match", "\"1\"")] {
        let call = world.post("/commands").header("Content-Type", "application/x-ndjson");
        let refused = call.header(header, value).body(body(&history(1))).send().await;
        assert_eq!(refused.problem(), (400, "invalid-header"), "{header}");
    }
    assert_eq!(world.event_types().await, [""; 0]);
}

#[tokio::test]
async fn results_come_while_the_request_is_being_sent() {
    let world = World::start().await;
    let mut import = Open::start(&world).await;
    for number in 0..3 {
        import.send(&body(&[register(number)])).await;
        assert_eq!(import.receive().await["line"], number + 1);
    }
    // Half a line is no line yet.
    let line = body(&[place(0)]);
    let (head, tail) = line.split_at(20);
    import.send(head).await;
    assert!(timeout(Duration::from_millis(100), import.receive()).await.is_err());
    import.send(tail).await;
    assert_eq!(import.receive().await["line"], 4);
    import.finish().await;
    assert_eq!(import.receive().await, all_accepted(4));
}

#[tokio::test]
async fn twenty_thousand_lines_are_decided_in_their_order() {
    let world = World::start().await;
    let lines = history(10_000);
    let (results, summary) = read(&import(&world, body(&lines)).await);
    assert_eq!(summary, all_accepted(20_000));
    in_order(&results);
    assert_eq!(world.event_types().await.len(), 20_000);
    let frames = world.place.log().await.head().await.unwrap().sequence;
    assert!(frames < 2_000, "lines under way together share frames: {frames}");
    world.verify().await;
}

#[tokio::test]
async fn an_import_that_broke_off_can_be_sent_again_whole() {
    let world = World::start().await;
    let lines = history(2_000);
    let mut broken = Open::start(&world).await;
    broken.send(&body(&lines[..2_000])).await;
    let first = broken.receive().await;
    drop(broken);

    let (results, summary) = read(&import(&world, body(&lines)).await);
    assert_eq!(summary, all_accepted(4_000));
    assert_eq!(results[0], first, "a repeat has the same answer");
    assert_eq!(world.event_types().await.len(), 4_000);
    world.verify().await;
}

#[tokio::test]
async fn a_line_that_the_connection_broke_in_has_no_effect() {
    let world = World::start().await;
    let mut import = Open::start(&world).await;
    // All of the last line, but neither its newline nor the end of the body.
    import.send(&(body(&[register(1)]) + &register(2).to_string())).await;
    assert_eq!(import.receive().await["line"], 1);
    drop(import.sending);
    while let Ok(Some(line)) = import.receiving.next_line().await {
        assert!(!line.contains("\"done\":true"), "{line}");
    }
    world.registered("ada").await;
    assert_eq!(world.event_types().await, ["account.registered"; 2]);
}

#[tokio::test]
async fn who_does_not_read_results_is_not_read() {
    let world = World::start().await;
    let mut import = Open::start(&world).await;
    // Each result repeats its line's fault, so that it is as long as the line.
    let line = format!("{{\"{}\": 1}}\n", "x".repeat(60_000));
    let mut sent = 0;
    while timeout(A_WHILE, import.send(&line)).await.is_ok() {
        sent += 1;
        assert!(sent * line.len() < 100_000_000, "it is read without end");
    }
    // The line that is on its way now arrives when there is room; so do the results.
    assert_eq!(import.receive().await["line"], 1);
    for number in 2..=sent {
        assert_eq!(import.receive().await["line"], number);
    }
}

#[tokio::test]
async fn an_import_continues_after_being_told_so() {
    let world = World::start().await;
    let address = world.commands.url.strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let line = body(&[register(1)]);
    let head = format!(
        "POST /commands HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        line.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut answer = vec![0; expected.len()];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, expected);
    client.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"done\":true"), "{answer}");
}

#[tokio::test]
async fn an_import_that_shutdown_cuts_off_says_so() {
    let mut world = World::start().await;
    let mut import = Open::start(&world).await;
    import.send(&body(&[register(1)])).await;
    assert_eq!(import.receive().await["status"], 201);
    let (end, ()) = tokio::join!(import.receive(), world.commands.stop());
    assert_eq!((&end["done"], &end["commands"], &end["accepted"]), (&json!(false), &json!(1), &json!(1)));
    assert_eq!((&end["status"], &end["code"]), (&json!(503), &json!("import-interrupted")));
}

#[tokio::test]
async fn an_import_waits_while_the_log_is_away_and_keeps_its_order() {
    let place = Place::new(Arc::new(Servers::start().await)).await;
    let mut world = World::at(place).await;
    let lines = history(5_000);
    let mut import = Open::start(&world).await;
    let mut received = Vec::new();
    for (index, lines) in lines.chunks(500).enumerate() {
        import.send(&body(lines)).await;
        received.push(import.receive().await);
        if index % 3 == 1 {
            Arc::get_mut(&mut world.place.servers).unwrap().nats.kill().await;
            Arc::get_mut(&mut world.place.servers).unwrap().nats.restart().await.unwrap();
        }
    }
    import.finish().await;
    while received.len() < lines.len() {
        received.push(import.receive().await);
    }
    in_order(&received);
    assert_eq!(import.receive().await, all_accepted(10_000));
    assert_eq!(world.event_types().await.len(), 10_000);
}

#[tokio::test]
async fn an_import_is_not_read_far_ahead_of_the_writer() {
    let place = Place::new(Arc::new(Servers::start().await)).await;
    let mut world = World::at(place).await;
    let mut import = Open::start(&world).await;
    Arc::get_mut(&mut world.place.servers).unwrap().nats.kill().await;
    let mut sent = 0;
    let line = |number: u64| format!("{}{}\n", register(number), " ".repeat(60_000));
    while timeout(A_WHILE, import.send(&line(sent))).await.is_ok() {
        sent += 1;
        assert!(sent < 600, "36 MB were read, and nothing of it was decided");
    }
    Arc::get_mut(&mut world.place.servers).unwrap().nats.restart().await.unwrap();
    let mut received = Vec::new();
    while received.len() < sent as usize {
        received.push(import.receive().await);
    }
    in_order(&received);
}

#[tokio::test]
async fn an_import_waits_while_the_queue_is_full() {
    let place = Place::new(Servers::shared().await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let nats_url = place.servers.nats.url_as("command-service");
    let state = temporary_folder().unwrap();
    let config = command_service::Config::parse_from([
        "service",
        "--namespace",
        &place.namespace,
        "--nats-url",
        &nats_url,
        "--queue-commands-max",
        "1",
        "--state-dir",
        state.path().to_str().unwrap(),
    ]);
    let shutdown = Shutdown::new();
    let service = tokio::spawn(command_service::serve(listener, config, shutdown.clone()));

    let http = reqwest::Client::new();
    let send = async |first: u64| {
        let body = body(&(first..first + 300).map(register).collect::<Vec<_>>());
        let request = http.post(format!("{url}/commands")).header("Content-Type", "application/x-ndjson");
        request.body(body).send().await.unwrap().text().await.unwrap()
    };
    // Others fill the queue of one, over and over.
    let others = async |number: u64| {
        for round in 0..100 {
            let path = format!("{url}/accounts/{}/close", account(1_000_000 + number));
            let answer = http.post(path).header("round", round).send().await.unwrap();
            assert!(matches!(answer.status().as_u16(), 404 | 503), "{answer:?}");
        }
    };
    let (imports, _) =
        tokio::join!(join_all((0..4).map(|import| send(import * 1000))), join_all((0..16).map(others)),);
    for answer in imports {
        let (results, summary) = parse(&answer);
        assert_eq!(summary, all_accepted(300));
        in_order(&results);
    }
    shutdown.cancel();
    service.await.unwrap().unwrap();
}
