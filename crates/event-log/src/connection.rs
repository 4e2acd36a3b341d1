//! Noticing that a connection was lost: a request does not outlive the connection that it was sent over, so
//! whoever waits for its answer need not wait for the timeout.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::{Client, connection::State};

/// How often who waits for an answer looks whether it can still come. The client tells of its connection
/// only who asks, and the callback of who made the connection.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The connection that a request is sent over, known by how often the client had connected then.
pub(crate) struct Connection {
    client: Client,
    number: u64,
}

impl Connection {
    /// To be taken before the request is sent. A client that looks for its server keeps what it is told to
    /// send for the connection that it makes next.
    pub fn of_next_request(client: &Client) -> Self {
        let number = connects(client);
        let is_connected = client.connection_state() == State::Connected;
        Self { client: client.clone(), number: if is_connected { number } else { number + 1 } }
    }

    /// Whether the client has connected anew: the request may never be answered, and may be repeated now.
    /// Not yet, as long as the client looks for its server.
    pub fn was_replaced(&self) -> bool {
        connects(&self.client) > self.number
    }

    /// Returns once the client has connected anew.
    pub async fn replaced(&self) {
        while !self.was_replaced() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}
