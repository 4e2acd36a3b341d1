//! A wire between a service and its NATS server that can be cut, or hold back what goes over it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Dropping it cuts it for good.
pub struct Wire {
    /// Of this end.
    pub url: String,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
struct State {
    is_frozen: bool,
    cuts: u32,
}

impl Wire {
    /// To the server at `url`, which names a user.
    pub async fn to(url: String) -> Self {
        let (user, server) = url.rsplit_once('@').unwrap();
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}", listener.local_addr().unwrap());
        let state = watch::Sender::new(State { is_frozen: false, cuts: 0 });
        let watched = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(join(client, server, watched.subscribe()));
            }
        });
        Self { url, state, task }
    }

    /// From now on nothing comes through, and neither end is told.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.is_frozen = true);
    }

    /// What was held back comes through.
    pub fn thaw(&self) {
        self.state.send_modify(|state| state.is_frozen = false);
    }

    /// Ends all connections; new ones can be made.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// Carries bytes both ways until either end closes or the wire is cut.
async fn join(client: TcpStream, server: TcpStream, mut state: watch::Receiver<State>) {
    let cuts = state.borrow().cuts;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let flow = state.clone();
    tokio::select! {
        () = carry(from_client, to_server, flow.clone()) => {}
        () = carry(from_server, to_client, flow) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if state.wait_for(|state| !state.is_frozen).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}
