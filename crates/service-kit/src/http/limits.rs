//! What one client may take of a service, whichever service it is.

use std::{
    net::{AddrParseError, IpAddr},
    num::NonZeroU32,
    time::Duration,
};

use axum::http::request::Parts;
use clap::Args;
use ipnet::IpNet;

use super::tls::TlsArgs;
use crate::problem::{
    Problem,
    kinds::{HEAD_TOO_LARGE, URL_TOO_LONG},
};

/// Hyper reads heads up to so many times the limit, so that one that is somewhat too large gets our own
/// answer, which says what the limit is. What is larger still gets hyper's: 431 (or 414) without a body.
const HEAD_READ_FACTOR: usize = 2;
/// Hyper reads so many headers without an allocation of its own.
const HEADERS_READ_MIN: usize = 100;

/// How clients reach the HTTP side, and its bounds. Reaching one is a clear answer, or the end of that one connection.
#[derive(Args, Clone, Debug)]
pub struct HttpArgs {
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Connections open at once; one more is answered 503 `overloaded` and closed. Fewer, with a warning, if
    /// the operating system does not allow so many open files.
    #[arg(long, env = "HEADWATER_HTTP_CONNECTIONS_MAX", default_value = "10000",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub http_connections_max: usize,

    /// Bytes of a request's URL and headers together; more is answered 414 (if the URL alone is too long) or 431.
    #[arg(long, env = "HEADWATER_HTTP_HEAD_BYTES_MAX", default_value = "32768",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(4_096..=1_048_576))]
    pub http_head_bytes_max: usize,

    /// Headers of a request; more are answered 431.
    #[arg(long, env = "HEADWATER_HTTP_HEADERS_MAX", default_value = "100",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(16..=1_000))]
    pub http_headers_max: usize,

    /// Milliseconds from the first byte of a request to the end of its headers, and from the opening of a
    /// connection to the first byte; then the connection is closed.
    #[arg(long, env = "HEADWATER_HTTP_HEAD_TIMEOUT_MS", default_value = "10000",
          value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub http_head_timeout_ms: u64,

    /// Milliseconds that a connection may be idle after an answer; then it is closed.
    #[arg(long, env = "HEADWATER_HTTP_IDLE_TIMEOUT_MS", default_value = "75000",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub http_idle_timeout_ms: u64,

    /// Milliseconds without a single byte, either of a request's body that is waited for or of an answer that
    /// the client does not take; then the connection is closed.
    #[arg(long, env = "HEADWATER_HTTP_STALL_TIMEOUT_MS", default_value = "30000",
          value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub http_stall_timeout_ms: u64,

    /// Milliseconds from the end of a request's headers to the beginning of its answer, after which the answer
    /// is 504 `answer-timeout`. How long an answer takes once it has begun, such as a stream, is not limited.
    #[arg(long, env = "HEADWATER_HTTP_ANSWER_TIMEOUT_MS", default_value = "60000",
          value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub http_answer_timeout_ms: u64,

    /// Refusals because of load (503 `overloaded`) that are answered a second; more are held back, up to 5 s each,
    /// so that who asks again at once, and over and over, does not take the time of those who are served. 0: all at once.
    #[arg(long, env = "HEADWATER_HTTP_REFUSALS_PER_SECOND", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub http_refusals_per_second: u32,

    /// Seconds from SIGTERM until no more connections are taken. Meanwhile requests are answered as before, over
    /// connections that end with their answer, and the health checks fail. Longer than a load balancer needs to
    /// notice; 0 for a service that clients reach directly, where it would only delay the end.
    #[arg(long, env = "HEADWATER_HTTP_DRAIN_SECONDS", default_value = "0",
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub http_drain_seconds: u64,

    /// Requests a second of one client, which is a token's subject, or an address where there is no token; more are
    /// answered 429 `rate-limited`. 0: as many as it likes, as has whoever comes from this machine.
    #[arg(long, env = "HEADWATER_CLIENT_REQUESTS_PER_SECOND", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub client_requests_per_second: u32,

    /// Requests that a client which has been quiet may send at once.
    #[arg(long, env = "HEADWATER_CLIENT_BURST", default_value = "2000")]
    pub client_burst: NonZeroU32,

    /// Addresses of the proxies before this service, or networks (10.0.0.0/8), separated by commas. They are believed
    /// about where a request comes from (`X-Forwarded-For`); nobody else is.
    #[arg(long, env = "HEADWATER_TRUSTED_PROXIES", value_delimiter = ',', value_parser = proxies)]
    pub trusted_proxies: Vec<IpNet>,
}

/// One address is the network of itself.
fn proxies(text: &str) -> Result<IpNet, AddrParseError> {
    match text.parse() {
        Ok(network) => Ok(network),
        Err(_) => text.parse::<IpAddr>().map(IpNet::from),
    }
}

impl HttpArgs {
    pub fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.http_head_timeout_ms)
    }

    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.http_idle_timeout_ms)
    }

    pub fn stall_timeout(&self) -> Duration {
        Duration::from_millis(self.http_stall_timeout_ms)
    }

    pub fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.http_answer_timeout_ms)
    }

    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.http_drain_seconds)
    }

    /// Hyper with the bounds that only it can keep.
    pub(super) fn hyper(&self) -> hyper::server::conn::http1::Builder {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.max_header_size(self.http_head_bytes_max * HEAD_READ_FACTOR);
        if self.http_headers_max > HEADERS_READ_MIN {
            builder.max_headers(self.http_headers_max);
        }
        builder
    }

    /// Refuses a head that is larger than it may be.
    pub(super) fn check_head(&self, head: &Parts) -> Result<(), Problem> {
        let url = head.uri.path_and_query().map_or(0, |url| url.as_str().len());
        let bytes_max = self.http_head_bytes_max;
        if url > bytes_max {
            let detail = format!("The URL has {url} bytes.");
            return Err(Problem::new(URL_TOO_LONG, detail).accepted(format!("at most {bytes_max} bytes")));
        }
        if head.headers.len() > self.http_headers_max {
            let detail = format!("The request has {} headers.", head.headers.len());
            let accepted = format!("at most {} headers", self.http_headers_max);
            return Err(Problem::new(HEAD_TOO_LARGE, detail).accepted(accepted));
        }
        let headers =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        let bytes = url + headers.sum::<usize>();
        if bytes > bytes_max {
            let detail = format!("The URL and the headers have {bytes} bytes.");
            return Err(Problem::new(HEAD_TOO_LARGE, detail).accepted(format!("at most {bytes_max} bytes")));
        }
        Ok(())
    }
}

#[cfg(test)]
impl HttpArgs {
    /// As a service has them that is started with these flags.
    pub(super) fn of(flags: &[&str]) -> Self {
        #[derive(clap::Parser)]
        struct Service {
            #[command(flatten)]
            limits: HttpArgs,
        }
        <Service as clap::Parser>::parse_from(["service"].iter().chain(flags)).limits
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn check(url_bytes: usize, headers: usize, header_bytes: usize) -> Result<(), &'static str> {
        let limits = HttpArgs::of(&["--http-head-bytes-max", "5000", "--http-headers-max", "20"]);
        let mut request = Request::get(format!("/{}", "u".repeat(url_bytes - 1)));
        for _ in 0..headers {
            request = request.header("h", "v".repeat(header_bytes - "h: \r\n".len()));
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        limits.check_head(&head).map_err(|problem| problem.kind().code)
    }

    #[test]
    fn a_head_within_its_bounds_is_taken() {
        assert_eq!(check(1, 0, 10), Ok(()));
        assert_eq!(check(5000, 0, 10), Ok(()));
        assert_eq!(check(4800, 20, 10), Ok(()));
    }

    #[test]
    fn a_url_that_is_too_long_is_named_as_such() {
        assert_eq!(check(5001, 0, 10), Err("url-too-long"));
    }

    #[test]
    fn headers_that_are_too_many_or_too_large_are_refused() {
        assert_eq!(check(1, 21, 10), Err("head-too-large"));
        assert_eq!(check(4801, 20, 10), Err("head-too-large"));
    }
}
