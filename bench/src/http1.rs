//! One HTTP/1.1 connection that is kept alive, with as little work a request as there can be: the client shares
//! the processors with what it measures.

use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Our services' answers have ten at the most.
const HEADERS_MAX: usize = 32;
const BUFFER_BYTES_AT_FIRST: usize = 4096;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request as it is sent; its memory is used again for the next one.
#[derive(Default)]
pub struct Request {
    bytes: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// `POST` with a JSON body.
    pub fn post(&mut self, path: Arguments<'_>, body: Arguments<'_>) {
        self.bytes.clear();
        self.body.clear();
        let written = self.body.write_fmt(body).and_then(|()| {
            let length = self.body.len();
            write!(
                self.bytes,
                "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            )
        });
        written.expect("a Vec takes every byte");
        self.bytes.extend_from_slice(&self.body);
    }

    /// `GET`, with more headers, each of which ends its line.
    pub fn get(&mut self, path: &str, headers: Arguments<'_>) {
        self.bytes.clear();
        write!(self.bytes, "GET {path} HTTP/1.1\r\nhost: bench\r\n{headers}\r\n")
            .expect("a Vec takes every byte");
    }
}

/// An answer, whole.
pub struct Answer<'a> {
    pub status: u16,
    head: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The headers, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        // Were it not text, it would not have been parsed.
        let head = str::from_utf8(self.head).unwrap_or_default();
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
    }

    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: vec![0; BUFFER_BYTES_AT_FIRST] })
    }

    /// Sends a request and waits for the whole answer.
    pub async fn call(&mut self, request: &Request) -> io::Result<Answer<'_>> {
        self.stream.write_all(&request.bytes).await?;
        let mut filled = 0;
        loop {
            filled += self.read(filled).await?;
            let Some(Head { status, body }) = Head::parse(&self.received[..filled])? else { continue };
            while filled < body.end {
                filled += self.read(filled).await?;
            }
            let (head, body) = (&self.received[..body.start], &self.received[body]);
            return Ok(Answer { status, head, body });
        }
    }

    /// Reads what is there behind the first `filled` bytes.
    async fn read(&mut self, filled: usize) -> io::Result<usize> {
        if filled == self.received.len() {
            if filled >= ANSWER_BYTES_MAX {
                return Err(invalid("the answer is too large"));
            }
            self.received.resize(filled * 2, 0);
        }
        match self.stream.read(&mut self.received[filled..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

struct Head {
    status: u16,
    /// Where the body is.
    body: std::ops::Range<usize>,
}

impl Head {
    /// `None` while the head is incomplete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(start) = response.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let length =
            response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: Option<usize> =
            length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        let status = response.code.unwrap_or_default();
        let length = match (length, status) {
            (Some(length), _) => length,
            (None, 204 | 304) => 0,
            (None, _) => return Err(invalid("the answer has no content-length")),
        };
        Ok(Some(Self { status, body: start..start + length }))
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_its_length() {
        let mut request = Request::default();
        for _ in 0..2 {
            request.post(format_args!("/a"), format_args!("{{}}"));
        }
        assert!(request.bytes.ends_with(b"content-length: 2\r\n\r\n{}"));
        assert!(request.bytes.starts_with(b"POST /a HTTP/1.1\r\n"));
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let head = b"HTTP/1.1 200 OK\r\nLog-Position: 7\r\nETag: \"a:b\"\r\n\r\n";
        let answer = Answer { status: 200, head, body: b"" };
        assert_eq!((answer.header("log-position"), answer.header("etag")), (Some("7"), Some("\"a:b\"")));
        assert_eq!((answer.header("age"), answer.headers().count()), (None, 2));
    }

    #[test]
    fn a_body_follows_its_head() {
        let head = Head::parse(b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nab").unwrap().unwrap();
        assert_eq!((head.status, head.body), (201, 43..46));
        assert!(Head::parse(b"HTTP/1.1 201 Created\r\nContent-Le").unwrap().is_none());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
