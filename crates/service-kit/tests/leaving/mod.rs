//! A service that was asked to end, with somebody in front of it who has yet to notice.

use axum::http::StatusCode;
use tokio::net::TcpStream;

use crate::server::{Server, until};

async fn is_ready(server: &Server) -> bool {
    server.send("GET /health/ready HTTP/1.1\r\n\r\n").await.status == StatusCode::OK
}

#[tokio::test]
async fn a_service_that_leaves_is_not_ready_and_serves_on_without_keeping_connections() {
    let server = Server::start(&["--http-drain-seconds", "60"]).await;
    let mut client = server.client().await;
    assert!(!client.get("/small").await.has("connection"));
    assert!(is_ready(&server).await);
    server.shutdown.cancel();
    until("it is not ready", async || !is_ready(&server).await).await;

    let answer = client.get("/small").await;
    assert_eq!((answer.status, answer.header("connection")), (StatusCode::OK, "close"));
    assert_eq!(client.rest().await, "");
    // Whoever has not noticed yet may still come.
    assert_eq!(server.client().await.get("/small").await.body, "small");
    server.is_well_and_empty().await;
}

#[tokio::test]
async fn after_its_drain_a_service_takes_nobody_in_and_finishes_what_it_has() {
    let mut server = Server::start(&["--http-drain-seconds", "1"]).await;
    let mut held = server.client().await;
    held.write("GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    until("the request is under way", async || server.held() == 1).await;
    server.shutdown.cancel();
    until("nobody is taken in", async || TcpStream::connect(server.address).await.is_err()).await;
    server.release();
    let answer = held.answer().await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("released", "close"));
    server.ended().await;
}

#[tokio::test]
async fn without_a_drain_a_service_ends_at_once() {
    let mut server = Server::start(&[]).await;
    let mut idle = server.client().await;
    assert_eq!(idle.get("/small").await.status, StatusCode::OK);
    server.shutdown.cancel();
    assert_eq!(idle.rest().await, "");
    server.ended().await;
}
