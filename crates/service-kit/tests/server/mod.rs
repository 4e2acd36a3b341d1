//! A server on a free port, and clients that speak to it byte by byte.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::StatusCode,
    routing::{get, post},
};
use clap::Parser;
use futures::stream;
use service_kit::{
    Health, Shutdown,
    auth::Auth,
    http::{HttpArgs, Service},
    problem::{Problem, kinds::OVERLOADED},
    shutdown, telemetry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Nothing that a test waits for takes this long, unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// More than all buffers between a server and a client hold.
pub const LARGE_BYTES: usize = 64 << 20;
/// Longer than any limit of a test with streams.
const BETWEEN_TICKS: Duration = Duration::from_millis(700);

#[derive(Parser)]
struct Config {
    #[command(flatten)]
    limits: HttpArgs,
}

pub struct Server {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    task: JoinHandle<std::io::Result<()>>,
    /// Requests to `/held` take a permit, which `release` adds.
    gate: Arc<Gate>,
}

struct Gate {
    permits: Semaphore,
    held: std::sync::atomic::AtomicUsize,
}

impl Server {
    pub async fn start(flags: &[&str]) -> Self {
        let Config { limits } = Config::parse_from(["server"].iter().chain(flags));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let gate = Arc::new(Gate { permits: Semaphore::new(0), held: Default::default() });
        let health = Health::default();
        let ending = shutdown::drained(shutdown.clone(), health.clone(), limits.drain());
        let routes = routes(gate.clone());
        let task = tokio::spawn(async move {
            let service =
                Service { name: "server", routes, health, load: None, auth: Auth::off(), admin: None };
            service_kit::http::serve(listener, service, &limits, ending).await
        });
        Self { address, shutdown, task, gate }
    }

    /// Why it could not start.
    pub async fn failed(self) -> String {
        self.task.await.unwrap().unwrap_err().to_string()
    }

    pub async fn client(&self) -> Client {
        let (reader, writer) = TcpStream::connect(self.address).await.unwrap().into_split();
        Client { reader: Reader { stream: reader, read: Vec::new() }, writer }
    }

    /// Sends bytes as a client that also reads, and gives the one answer, after which the connection is closed.
    pub async fn send(&self, request: impl Into<String>) -> Answer {
        let request = request.into();
        // So that the server closes after an answer that leaves the connection open.
        let request = request.replacen("HTTP/1.1\r\n", "HTTP/1.1\r\nconnection: close\r\n", 1);
        let (mut reader, mut writer) = self.client().await.split();
        let (_, rest) = tokio::join!(writer.write_all(request.as_bytes()), reader.rest());
        Answer::read(rest)
    }

    /// Others are served, and after a while no connection is open.
    pub async fn is_well_and_empty(&self) {
        let answer = self.send("GET /health/live HTTP/1.1\r\n\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "live\n"));
        until("no connection is open", async || self.open() == 0).await;
    }

    /// How many connections are open, as the metrics tell.
    pub fn open(&self) -> i64 {
        self.metric("headwater_http_connections")
    }

    pub fn refused(&self) -> i64 {
        self.metric("headwater_http_connections_refused_total")
    }

    fn metric(&self, name: &str) -> i64 {
        let series = format!("{name}{{listen=\"{}\"}} ", self.address);
        let metrics = telemetry::render_metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
    }

    pub fn held(&self) -> usize {
        self.gate.held.load(std::sync::atomic::Ordering::SeqCst)
    }

    pub fn release(&self) {
        self.gate.permits.add_permits(1);
    }

    pub async fn ended(&mut self) {
        timeout(PATIENCE, &mut self.task).await.unwrap().unwrap().unwrap();
    }

    pub async fn crash(&mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

fn routes(gate: Arc<Gate>) -> Router {
    let chunk = || Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]));
    let endless = move || Body::from_stream(stream::repeat_with(chunk));
    let ticks = || {
        Body::from_stream(stream::unfold(0, async |count| {
            sleep(BETWEEN_TICKS).await;
            (count < 3).then_some((Ok::<_, Infallible>("tick\n"), count + 1))
        }))
    };
    let held = || async move {
        gate.held.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        gate.permits.acquire().await.unwrap().forget();
        "released"
    };
    Router::new()
        .route("/small", get(async || "small"))
        .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
        .route("/endless", get(async move || endless()))
        .route("/ticks", get(async move || ticks()))
        .route("/never", get(std::future::pending::<()>))
        .route("/held", get(held))
        .route("/busy", get(async || std::thread::sleep(Duration::from_micros(20))))
        .route("/full", get(async || Problem::new(OVERLOADED, "As many as there is room for are here.")))
        .route("/echo/{text}", get(async |Path(text): Path<String>| text))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
}

pub struct Client {
    reader: Reader,
    writer: OwnedWriteHalf,
}

impl Client {
    pub fn split(self) -> (Reader, OwnedWriteHalf) {
        (self.reader, self.writer)
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.write(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        self.answer().await
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).await.unwrap();
    }

    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.writer.write_all(bytes.as_ref()).await
    }

    pub async fn answer(&mut self) -> Answer {
        self.reader.answer().await
    }

    pub async fn rest(&mut self) -> String {
        self.reader.rest().await
    }

    /// Reads some bytes of whatever, and says how many.
    pub async fn some(&mut self) -> usize {
        timeout(PATIENCE, self.reader.more()).await.expect("something to read");
        std::mem::take(&mut self.reader.read).len()
    }
}

pub struct Reader {
    stream: OwnedReadHalf,
    /// What was read and is not part of an answer yet.
    read: Vec<u8>,
}

impl Reader {
    /// Everything until the connection ends, in whichever way.
    pub async fn rest(&mut self) -> String {
        let reading = async { while self.more().await {} };
        timeout(PATIENCE, reading).await.expect("the connection ends");
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// The next answer, however its length is told.
    pub async fn answer(&mut self) -> Answer {
        let reading = async {
            loop {
                if let Some(end) = end_of_answer(&self.read) {
                    let rest = self.read.split_off(end);
                    return std::mem::replace(&mut self.read, rest);
                }
                assert!(
                    self.more().await,
                    "the connection ended after {:?}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        };
        let answer = timeout(PATIENCE, reading).await.expect("an answer");
        Answer::read(String::from_utf8(answer).unwrap())
    }

    async fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.read.extend_from_slice(&bytes[..read]);
        read > 0
    }
}

fn end_of_answer(bytes: &[u8]) -> Option<usize> {
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..body]);
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => Some(body + length.parse::<usize>().unwrap()).filter(|end| bytes.len() >= *end),
        // Chunked.
        None => bytes.ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len()),
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn read(text: String) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { without_chunks(body) } else { body.to_owned() };
        Self { status, head: head.to_owned(), body }
    }

    pub fn header(&self, name: &str) -> &str {
        let header = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        header.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.head.lines().any(|line| line.starts_with(&format!("{name}: ")))
    }

    /// The status and the problem's code.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status.as_u16());
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    }
}

/// Each chunk is a line with its size and a line with its bytes, which in these tests end with a newline.
fn without_chunks(body: &str) -> String {
    body.split("\r\n").skip(1).step_by(2).collect()
}

/// Waits until `condition` holds; panics with `what` if it never does.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}
