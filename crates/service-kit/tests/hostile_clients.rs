//! Clients that are hostile, broken or gone, against a server with small bounds: each gets a clear answer or
//! the end of its connection, others are served, and nothing is left of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod encrypted;
mod leaving;
mod server;

use std::{cell::Cell, time::Duration};

use axum::http::StatusCode;
use futures::future::join_all;
use server::{Answer, Client, PATIENCE, Server, until};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Less than any patience of the tests, and much more than a step of theirs takes.
const SHORT: &str = "300";

#[tokio::test]
async fn a_url_of_a_mebibyte_is_refused() {
    let server = Server::start(&[]).await;
    let answer = server.send(format!("GET /{} HTTP/1.1\r\n\r\n", "u".repeat(1 << 20))).await;
    // Hyper's own answer, which has no body.
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ""));
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_may_go_on_for_a_moment() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    // More than is read of a head. A connection that is closed with bytes unread is reset.
    client.write(format!("GET /{}", "u".repeat(1 << 20))).await;
    assert_eq!(client.answer().await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    client.write("u".repeat(1 << 10)).await;
    client.write("u".repeat(1 << 10)).await;
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_url_that_is_a_little_too_long_is_told_what_is_accepted() {
    let server = Server::start(&["--http-head-bytes-max", "5000"]).await;
    let answer = server.send(format!("GET /{} HTTP/1.1\r\n\r\n", "u".repeat(5000))).await;
    assert_eq!(answer.problem(), (414, "url-too-long".into()));
    let head = format!("GET / HTTP/1.1\r\nh: {}\r\n\r\n", "v".repeat(5000));
    assert_eq!(server.send(head).await.problem(), (431, "head-too-large".into()));
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn ten_thousand_headers_are_refused() {
    let server = Server::start(&[]).await;
    let answer = server.send(format!("GET /small HTTP/1.1\r\n{}\r\n", "h: v\r\n".repeat(10_000))).await;
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn headers_beyond_the_bound_are_refused_and_those_within_are_not() {
    for bound in [20, 100, 200] {
        let server = Server::start(&["--http-headers-max", &bound.to_string()]).await;
        let with = |headers: usize| format!("GET /small HTTP/1.1\r\n{}\r\n", "h: v\r\n".repeat(headers));
        let mut client = server.client().await;
        client.write(with(bound)).await;
        assert_eq!(client.answer().await.status, StatusCode::OK);
        client.write(with(bound + 1)).await;
        assert_eq!(client.answer().await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
}

#[tokio::test]
async fn who_is_refused_because_of_load_cannot_ask_again_at_once() {
    let server = Server::start(&["--http-refusals-per-second", "10"]).await;
    let begun = Instant::now();
    let mut client = server.client().await;
    for _ in 0..4 {
        assert_eq!(client.get("/full").await.problem(), (503, "overloaded".into()));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "four of them at ten a second");
    // Who is served waits for none of that.
    assert_eq!(client.get("/small").await.status, StatusCode::OK);
}

#[tokio::test]
async fn when_all_would_wait_for_their_turn_some_are_refused_but_not_who_looks_after_the_service() {
    let server = Server::start(&[]).await;
    let refused = Cell::new(0);
    let insisting = async || {
        let mut client = server.client().await;
        while refused.get() < 100 {
            let answer = client.get("/busy").await;
            if answer.status != StatusCode::OK {
                assert_eq!(answer.problem(), (503, "overloaded".into()));
                assert_eq!(answer.header("retry-after"), "1");
                refused.set(refused.get() + 1);
            }
        }
    };
    let looking = async {
        let mut client = server.client().await;
        while refused.get() < 100 {
            assert_eq!(client.get("/health/live").await.status, StatusCode::OK);
        }
    };
    // From then on so many files may be open.
    assert_eq!(server.client().await.get("/small").await.status, StatusCode::OK);
    let insisting = join_all((0..1_100).map(|_| insisting()));
    timeout(PATIENCE, async { tokio::join!(insisting, looking) }).await.expect("a hundred are refused");
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let server = Server::start(&["--http-head-timeout-ms", SHORT]).await;
    let (mut reader, mut writer) = server.client().await.split();
    let dripping = async {
        // Ends when the server has closed the connection.
        writer.write_all(b"GET /small HTTP/1.1\r\n").await?;
        while writer.write_all(b"h").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        std::io::Result::Ok(())
    };
    let (read, _) = tokio::join!(reader.rest(), dripping);
    assert_eq!(read, "", "there is nothing to answer");
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed() {
    let server = Server::start(&["--http-head-timeout-ms", SHORT]).await;
    let mut client = server.client().await;
    assert_eq!(client.rest().await, "");
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let server = Server::start(&["--http-head-timeout-ms", "60000", "--http-idle-timeout-ms", "1500"]).await;
    let (mut idle, mut used) = (server.client().await, server.client().await);
    assert_eq!(idle.get("/small").await.status, StatusCode::OK);
    let using = async {
        for _ in 0..40 {
            assert_eq!(used.get("/small").await.status, StatusCode::OK);
            sleep(Duration::from_millis(50)).await;
        }
    };
    let (rest, ()) = tokio::join!(idle.rest(), using);
    assert_eq!(rest, "");
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused_at_once_and_the_others_served() {
    const BOUND: usize = 16;
    let server = Server::start(&["--http-connections-max", &BOUND.to_string()]).await;
    let mut inside = join_all((0..BOUND).map(|_| server.client())).await;
    for client in &mut inside {
        assert_eq!(client.get("/small").await.status, StatusCode::OK);
    }
    let outside = join_all((0..2000).map(|_| async {
        let mut client = server.client().await;
        // The answer does not wait for the request; a client that sends one all the same gets to read it.
        let _ = client.try_write("GET /small HTTP/1.1\r\n\r\n").await;
        Answer::read(client.rest().await)
    }))
    .await;
    for answer in &outside {
        assert_eq!(answer.problem(), (503, "overloaded".into()));
        assert_eq!((answer.header("retry-after"), answer.header("connection")), ("1", "close"));
    }
    assert_eq!((server.open(), server.refused()), (BOUND as i64, 2000));
    for client in &mut inside {
        assert_eq!(client.get("/small").await.status, StatusCode::OK);
    }
    drop(inside);
    until("their places are free", async || server.open() == 0).await;
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn garbage_is_refused() {
    let server = Server::start(&[]).await;
    for garbage in
        ["\x00\x01\x02\x03\u{fffd}\r\n\r\n", "GET\r\n\r\n", "GET /a b c HTTP/9.9\r\n\r\n", "{}\n\n"]
    {
        assert_eq!(server.send(garbage).await.status, StatusCode::BAD_REQUEST, "{garbage:?}");
    }
    // The beginning of HTTP/2 and of TLS, which are not spoken here.
    for protocol in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..]] {
        let mut client = server.client().await;
        client.write(protocol).await;
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{rest}");
    }
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = Server::start(&[]).await;
    let answer = server.send("GET /small HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "small"));
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let server = Server::start(&["--http-stall-timeout-ms", SHORT]).await;
    let answer = server.send("POST /length HTTP/1.1\r\ncontent-length: 1000\r\n\r\nabc").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_body_that_drips_is_waited_for_no_longer_than_an_answer_may_take() {
    let server = Server::start(&["--http-answer-timeout-ms", SHORT]).await;
    let (mut reader, mut writer) = server.client().await.split();
    let dripping = async {
        writer.write_all(b"POST /length HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n").await?;
        while writer.write_all(b"b").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        std::io::Result::Ok(())
    };
    let (answer, _) = tokio::join!(reader.rest(), dripping);
    assert_eq!(Answer::read(answer).problem(), (504, "answer-timeout".into()));
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_given_up() {
    let server = Server::start(&["--http-answer-timeout-ms", SHORT]).await;
    let mut client = server.client().await;
    let answer = client.get("/never").await;
    assert_eq!(answer.problem(), (504, "answer-timeout".into()));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(client.get("/small").await.status, StatusCode::OK, "the connection can be used again");
}

#[tokio::test]
async fn a_stream_may_be_silent_for_longer_than_any_other_wait() {
    let timeouts =
        ["head", "idle", "stall", "answer"].map(|what| format!("--http-{what}-timeout-ms={SHORT}"));
    let server = Server::start(&timeouts.each_ref().map(String::as_str)).await;
    assert_eq!(server.client().await.get("/ticks").await.body, "tick\ntick\ntick\n");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_left() {
    let server = Server::start(&["--http-stall-timeout-ms", SHORT]).await;
    let mut clients = Vec::new();
    for path in ["/large", "/endless"] {
        let mut client = server.client().await;
        client.write(format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        client.some().await;
        clients.push(client);
    }
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn a_client_that_reads_its_answer_slowly_is_not_idle() {
    let server = Server::start(&["--http-idle-timeout-ms", "500"]).await;
    let mut client = server.client().await;
    client.write("GET /large HTTP/1.1\r\n\r\n").await;
    let mut bytes = 0;
    // Several times as long as it may be idle.
    for _ in 0..100 {
        bytes += client.some().await;
        sleep(Duration::from_millis(20)).await;
    }
    bytes += client.rest().await.len();
    assert!(bytes > server::LARGE_BYTES, "{bytes}");
}

#[tokio::test]
async fn a_client_may_leave_in_the_middle_of_an_answer() {
    let server = Server::start(&[]).await;
    for path in ["/large", "/endless", "/never"] {
        let mut client = server.client().await;
        client.write(format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        if path != "/never" {
            client.some().await;
        }
    }
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]).await;
    let requests: String =
        (0..500).map(|i| format!("GET /echo/{i} HTTP/1.1\r\nhost: localhost\r\n\r\n")).collect();
    let (mut reader, mut writer) = server.client().await.split();
    let reading = async {
        for i in 0..500 {
            assert_eq!(reader.answer().await.body, i.to_string());
        }
    };
    let (written, ()) = tokio::join!(writer.write_all(requests.as_bytes()), reading);
    written.unwrap();
    drop((reader, writer));
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn the_end_waits_for_the_request_under_way_and_for_no_idle_connection() {
    let mut server = Server::start(&[]).await;
    let (mut idle, mut busy) = (server.client().await, server.client().await);
    assert_eq!(idle.get("/small").await.status, StatusCode::OK);
    busy.write("GET /held HTTP/1.1\r\n\r\n").await;
    until("the request is under way", async || server.held() == 1).await;
    server.shutdown.cancel();
    assert_eq!(idle.rest().await, "");
    until("no more connections are taken", async || TcpStream::connect(server.address).await.is_err()).await;
    server.release();
    assert_eq!(busy.answer().await.body, "released");
    server.ended().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_keep_the_server() {
    let mut server = Server::start(&[]).await;
    let mut client = server.client().await;
    client.write("GET /never HTTP/1.1\r\n\r\n").await;
    until("the connection is open", async || server.open() == 1).await;
    server.shutdown.cancel();
    server.ended().await;
    assert_eq!(client.rest().await, "");
    assert_eq!(server.open(), 0);
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_its_connections_along() {
    let mut server = Server::start(&[]).await;
    let mut client: Client = server.client().await;
    assert_eq!(client.get("/small").await.status, StatusCode::OK);
    server.crash().await;
    assert_eq!(client.rest().await, "");
    assert_eq!(server.open(), 0);
}
