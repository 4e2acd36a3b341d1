//! The answer to a connection that is one too many: at once, without reading a request.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::stream::{DISCARD_BYTES, LINGER_BYTES_MAX, LINGER_TIME_MAX};
use crate::problem::{PROBLEM_CODE, Problem, kinds::OVERLOADED};

/// So many refused connections may linger, so that their clients get to read the answer; what comes on top is
/// closed at once.
pub const REFUSALS_MAX: usize = 1_024;

pub struct Refusals {
    /// The whole answer, as it is sent.
    answer: Arc<[u8]>,
    lingering: JoinSet<()>,
}

impl Refusals {
    pub fn new() -> Self {
        let problem = Problem::new(OVERLOADED, "As many connections are open as this service takes.");
        let body = serde_json::to_string(&problem).expect("a problem is strings and numbers");
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
             {PROBLEM_CODE}: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            OVERLOADED.code,
            body.len()
        );
        Self { answer: answer.into_bytes().into(), lingering: JoinSet::new() }
    }

    pub fn refuse(&mut self, stream: TcpStream) {
        while self.lingering.try_join_next().is_some() {}
        if self.lingering.len() < REFUSALS_MAX {
            self.lingering.spawn(refuse(stream, self.answer.clone()));
        } else {
            // A new connection has room for so little; whether the client gets to read it is up to it.
            let _ = stream.try_write(&self.answer);
        }
    }
}

async fn refuse(mut stream: TcpStream, answer: Arc<[u8]>) {
    let answering = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let mut scratch = [0; DISCARD_BYTES];
        let mut bytes = 0;
        while bytes < LINGER_BYTES_MAX {
            match stream.read(&mut scratch).await? {
                0 => break,
                read => bytes += read,
            }
        }
        std::io::Result::Ok(())
    };
    // Whoever is gone already needs no answer.
    let _ = timeout(LINGER_TIME_MAX, answering).await;
}
