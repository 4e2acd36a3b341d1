//! What an import sends, and how its answer is read.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use uuid::Uuid;

use crate::harness::{Answer, World};

/// Longer than any answer takes; shorter than anybody wants to wait to see that there is none.
pub const A_WHILE: Duration = Duration::from_secs(2);

pub fn account(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

pub fn register(number: u64) -> Value {
    json!({"aggregate": "accounts", "id": account(number), "command": "register",
           "idempotency_key": format!("register-{number}"),
           "data": {"email": format!("{number}@example.org"), "username": format!("user-{number}")}})
}

pub fn place(number: u64) -> Value {
    json!({"aggregate": "orders", "command": "place", "idempotency_key": format!("place-{number}"),
           "data": {"account_id": account(number), "quantity": 1, "amount_cents": 100, "currency": "USD"}})
}

/// Each account registers, and then orders.
pub fn history(accounts: u64) -> Vec<Value> {
    (0..accounts).flat_map(|number| [register(number), place(number)]).collect()
}

pub fn body(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub async fn import(world: &World, body: impl Into<reqwest::Body>) -> Answer {
    world.post("/commands").header("Content-Type", "application/x-ndjson").body(body).send().await
}

/// The results, and the summary.
pub fn read(answer: &Answer) -> (Vec<Value>, Value) {
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-ndjson"));
    parse(&answer.text)
}

pub fn parse(answer: &str) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    (lines, summary)
}

pub fn all_accepted(commands: u64) -> Value {
    json!({"done": true, "commands": commands, "accepted": commands, "failed": 0})
}

/// Every command has its own event, and the log has them in the order of the lines.
#[track_caller]
pub fn in_order(results: &[Value]) {
    let positions: Vec<_> = results.iter().map(|result| result["position"].as_u64()).collect();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{positions:?}");
    let lines: Vec<_> = results.iter().map(|result| result["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (1..=results.len() as u64).collect::<Vec<_>>());
}

/// An import that is sent piece by piece, while its results are read.
pub struct Open {
    pub sending: OwnedWriteHalf,
    pub receiving: Lines<BufReader<OwnedReadHalf>>,
}

impl Open {
    pub async fn start(world: &World) -> Self {
        let address = world.commands.url.strip_prefix("http://").unwrap();
        let (receiving, mut sending) = TcpStream::connect(address).await.unwrap().into_split();
        let head = "POST /commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/jsonl\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        sending.write_all(head.as_bytes()).await.unwrap();
        Self { sending, receiving: BufReader::new(receiving).lines() }
    }

    pub async fn send(&mut self, text: &str) {
        self.sending.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
    }

    pub async fn finish(&mut self) {
        self.sending.write_all(b"0\r\n\r\n").await.unwrap();
    }

    /// The next line of the answer; the answer's head and the sizes of its chunks are passed over.
    pub async fn receive(&mut self) -> Value {
        loop {
            let line = timeout(A_WHILE * 10, self.receiving.next_line()).await.unwrap().unwrap();
            let line = line.expect("the answer goes on");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }
}
