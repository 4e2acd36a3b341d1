//! How each kind of program shows that it is ready to serve.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http;

/// One check; a program that does not answer in this time is asked again.
pub const CHECK_WITHIN: Duration = Duration::from_secs(2);

pub enum Readiness {
    /// nats-server greets its clients once JetStream has recovered its streams.
    NatsGreeting { port: u16 },
    /// In a cluster, JetStream answers the admin once a majority has elected a leader.
    JetStream { port: u16, password: String },
    /// Postgres writes its state into its pid file.
    PostmasterFile { path: PathBuf },
    /// Our services answer 200, or a problem that says what is missing; Envoy likewise, once it has asked all upstreams
    /// for their health.
    Health { url: String },
}

impl Readiness {
    /// Whether the program with this pid is ready; if not, what is missing.
    pub async fn check(&self, pid: u32) -> Result<(), String> {
        match self {
            Self::NatsGreeting { port } => timeout(CHECK_WITHIN, nats_greeting(*port))
                .await
                .unwrap_or_else(|_| Err(format!("no greeting on port {port}"))),
            Self::JetStream { port, password } => timeout(CHECK_WITHIN, jetstream(*port, password))
                .await
                .unwrap_or_else(|_| Err("JetStream does not answer".to_owned())),
            Self::PostmasterFile { path } => postmaster_file(path, pid),
            Self::Health { url } => health(url).await,
        }
    }
}

async fn nats_greeting(port: u16) -> Result<(), String> {
    connect_to_nats(port).await.map(|_| ())
}

async fn connect_to_nats(port: u16) -> Result<BufReader<TcpStream>, String> {
    let connection = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let mut connection = BufReader::new(connection);
    let mut greeting = String::new();
    connection.read_line(&mut greeting).await.map_err(|error| error.to_string())?;
    if greeting.starts_with("INFO ") {
        Ok(connection)
    } else {
        Err(format!("port {port} does not speak NATS"))
    }
}

/// Asks for the account's use of JetStream, which its leader answers, in NATS's own text protocol.
async fn jetstream(port: u16, password: &str) -> Result<(), String> {
    let mut connection = connect_to_nats(port).await?;
    // The inbox is known to the whole cluster, so that the question of another node needs another.
    let inbox = format!("_INBOX.ready.{port}");
    let connect = serde_json::json!({"verbose": false, "user": "admin", "pass": password});
    let question = format!("CONNECT {connect}\r\nSUB {inbox} 1\r\nPUB $JS.API.INFO {inbox} 0\r\n\r\n");
    connection.write_all(question.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut lines = connection.lines();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        if line.starts_with("-ERR") {
            return Err(line);
        }
        if line.starts_with('{') {
            let answer: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let problem = answer["error"]["description"].as_str();
            return problem.map_or(Ok(()), |problem| Err(problem.to_owned()));
        }
    }
    Err("it closed the connection".to_owned())
}

fn postmaster_file(path: &Path, pid: u32) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|_| "it is starting".to_owned())?;
    // Lines of the pid file: pid, data folder, start time, port, socket folder, address, shared memory, state.
    let mut lines = text.lines().map(str::trim);
    let ours = lines.next() == Some(pid.to_string().as_str());
    match lines.nth(6) {
        Some("ready") if ours => Ok(()),
        Some(state) if ours && !state.is_empty() => Err(format!("its state is {state}")),
        _ => Err("it is starting".to_owned()),
    }
}

/// Asks a program for its health; the error is the problem's detail or title, what else it answers, or what stopped
/// the question.
pub async fn health(url: &str) -> Result<(), String> {
    let answer = http::client().get(url).timeout(CHECK_WITHIN).send().await;
    let answer = answer.map_err(|error| match error.is_connect() {
        true => "it does not listen".to_owned(),
        false => http::chain(&error),
    })?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let reason = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or(text.trim());
    Err(format!("it answers {status}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_left_by_another_postmaster_is_not_ready() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "41\n/data\n1700000000\n5432\n\n127.0.0.1\n  123  456\nready   \n";
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(postmaster_file(file.path(), 41), Ok(()));
        assert!(postmaster_file(file.path(), 42).is_err());
        std::fs::write(file.path(), text.replace("ready", "starting")).unwrap();
        assert_eq!(postmaster_file(file.path(), 41), Err("its state is starting".to_owned()));
    }
}
