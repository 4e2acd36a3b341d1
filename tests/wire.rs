//! A wire between a service and a server that can be cut, slow down or hold back what goes over it, or lead elsewhere.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Dropping it cuts it for good.
pub struct Wire {
    /// Of this end: host and port.
    pub address: String,
    server: watch::Sender<String>,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
struct State {
    is_frozen: bool,
    /// Only what goes to the server is.
    is_half_frozen: bool,
    is_closed: bool,
    /// Of whatever is read from either end at once.
    delay: Duration,
    cuts: u32,
}

impl Wire {
    /// To the server with this URL.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = watch::Sender::new(State {
            is_frozen: false,
            is_half_frozen: false,
            is_closed: false,
            delay: Duration::ZERO,
            cuts: 0,
        });
        let server = watch::Sender::new(address_of(url));
        let (watched, leads_to) = (state.clone(), server.subscribe());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if watched.borrow().is_closed {
                    continue;
                }
                let server = leads_to.borrow().clone();
                let Ok(server) = TcpStream::connect(server).await else { continue };
                tokio::spawn(join(client, server, watched.subscribe()));
            }
        });
        Self { address, server, state, task }
    }

    /// The server's URL with the address of this end.
    pub fn instead(&self, url: &str) -> String {
        url.replace(&address_of(url), &self.address)
    }

    /// From now on it leads to another server; all connections end.
    pub fn lead_to(&self, url: &str) {
        self.server.send_replace(address_of(url));
        self.cut();
    }

    /// From now on nothing comes through, and neither end is told.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.is_frozen = true);
    }

    /// The same of what goes to the server; what the server says comes through.
    pub fn freeze_half(&self) {
        self.state.send_modify(|state| state.is_half_frozen = true);
    }

    /// What was held back comes through.
    pub fn thaw(&self) {
        self.state.send_modify(|state| (state.is_frozen, state.is_half_frozen) = (false, false));
    }

    /// Ends all connections; new ones can be made.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Ends all connections, and each new one as soon as it is made.
    pub fn close(&self) {
        self.state.send_modify(|state| state.is_closed = true);
        self.cut();
    }

    /// From now on connections can be made again.
    pub fn open(&self) {
        self.state.send_modify(|state| state.is_closed = false);
    }

    /// From now on everything takes so much longer, either way.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// `127.0.0.1:5432` of `postgres://user:password@127.0.0.1:5432/database`.
fn address_of(url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    place.split('/').next().unwrap().to_owned()
}

/// Carries bytes both ways until either end closes or the wire is cut.
async fn join(client: TcpStream, server: TcpStream, mut state: watch::Receiver<State>) {
    let cuts = state.borrow().cuts;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let flow = state.clone();
    tokio::select! {
        () = carry(from_client, to_server, flow.clone(), |state| !state.is_frozen && !state.is_half_frozen) => {}
        () = carry(from_server, to_client, flow, |state| !state.is_frozen) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
    flows: impl Fn(&State) -> bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let delay = state.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if state.wait_for(&flows).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
