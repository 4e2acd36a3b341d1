//! Noticing that a connection was lost: a request does not outlive the connection that it was sent over, so
//! whoever waits for its answer need not wait for the timeout.

use std::{future::pending, sync::atomic::Ordering, time::Duration};

use async_nats::{Client, connection::State};
use tokio::sync::watch;

/// How often it is looked whether a connection is still there. The client tells of it only who asks, and the
/// callback of who made the connection.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The connections that a client makes, one after the other. One task looks for all who wait, so that waiting
/// for an answer costs no timer.
#[derive(Clone)]
pub(crate) struct Connections {
    client: Client,
    /// How often the client has connected.
    count: watch::Receiver<u64>,
}

impl Connections {
    pub fn of(client: Client) -> Self {
        let (sender, count) = watch::channel(connects(&client));
        tokio::spawn(look(client.clone(), sender));
        Self { client, count }
    }

    /// To be taken before the request is sent. A client that looks for its server keeps what it is told to
    /// send for the connection that it makes next.
    pub fn of_next_request(&self) -> Connection {
        let number = connects(&self.client);
        let is_connected = self.client.connection_state() == State::Connected;
        Connection { number: if is_connected { number } else { number + 1 }, count: self.count.clone() }
    }
}

/// The connection that a request is sent over, known by how often the client had connected then.
pub(crate) struct Connection {
    number: u64,
    count: watch::Receiver<u64>,
}

impl Connection {
    /// Whether the client has connected anew: the request may never be answered, and may be repeated now.
    /// Not yet, as long as the client looks for its server.
    pub fn was_replaced(&self) -> bool {
        *self.count.borrow() > self.number
    }

    /// Returns once the client has connected anew.
    pub async fn replaced(&self) {
        if self.count.clone().wait_for(|count| *count > self.number).await.is_err() {
            // Nobody looks any more, because the runtime is ending.
            pending().await
        }
    }
}

/// Looks for as long as somebody may wait.
async fn look(client: Client, count: watch::Sender<u64>) {
    while !count.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = connects(&client);
        count.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}
