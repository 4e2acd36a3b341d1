//! HTTP to our own services on loopback.

/// A client that ignores proxies: a proxy set for the internet cannot reach our loopback.
pub fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().build();
    client.expect("a client without TLS and without a proxy has nothing that could be missing")
}

/// An error with its causes; reqwest's own text leaves them out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
