//! Takes connections, as many as may be open at once, until it is time to leave.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, UpDownCounter},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    clients::Clients, connection, lateness::Lateness, limits::HttpArgs, observed::Observed, open_files,
    pace::Pace, refusal::Refusals, tls::Tls,
};
use crate::{Health, Shutdown, auth::Auth, load::Load, telemetry};

/// After `shutdown`, requests under way get this long to finish; a client that never sends the end of its
/// request must not keep the service from leaving.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);
/// The pause after a connection could not be accepted for a reason of our own, such as no more open files.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What every connection needs of the service. Cheap to clone.
#[derive(Clone)]
pub struct Served {
    pub router: Router,
    pub health: Health,
    pub load: Option<Load>,
    pub auth: Auth,
    pub clients: Arc<Clients>,
    pub observed: Observed,
    pub lateness: Arc<Lateness>,
    /// Of refusals.
    pub pace: Arc<Pace>,
    /// Connections are encrypted.
    pub tls: Option<Tls>,
}

/// Serves until `shutdown`, then finishes the requests that are under way. Dropping it drops them.
pub async fn serve(
    listener: TcpListener,
    served: Served,
    limits: &HttpArgs,
    shutdown: Shutdown,
) -> io::Result<()> {
    let connections_max = open_files::make_room(limits.http_connections_max);
    if let Some(load) = &served.load {
        load.set_in_flight_max(connections_max);
    }
    let limits = Arc::new(limits.clone());
    let metrics = Metrics::new(listener.local_addr()?);
    let mut connections = JoinSet::new();
    let mut refusals = Refusals::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // Before more are accepted, so that the count is right.
            Some(_) = connections.join_next() => continue,
            stream = accept(&listener) => stream,
        };
        if connections.len() < connections_max {
            let serving = connection::serve(stream, served.clone(), limits.clone(), shutdown.clone());
            let open = metrics.opened();
            connections.spawn(async move {
                serving.await;
                drop(open);
            });
        } else {
            metrics.refused();
            served.load.as_ref().inspect(|load| load.shed());
            // Who expects encryption could not read the answer.
            if served.tls.is_none() {
                refusals.refuse(stream);
            }
        }
    }
    drop(listener);
    let drained = timeout(DRAIN_TIME_MAX, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("leaving before all requests had ended");
    }
    Ok(())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Whether the client went away before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionRefused | E::ConnectionAborted | E::ConnectionReset)
}

struct Metrics {
    open: UpDownCounter<i64>,
    refused: Counter<u64>,
    labels: [KeyValue; 1],
}

impl Metrics {
    fn new(address: SocketAddr) -> Self {
        let meter = telemetry::meter();
        let open = meter.i64_up_down_counter("http_connections").with_description("Open connections").build();
        let refused = meter
            .u64_counter("http_connections_refused")
            .with_description("Connections refused because too many were open")
            .build();
        let metrics = Self { open, refused, labels: [KeyValue::new("listen", address.to_string())] };
        metrics.open.add(0, &metrics.labels);
        metrics.refused.add(0, &metrics.labels);
        metrics
    }

    /// Counts a connection until what is given back is dropped.
    fn opened(&self) -> OpenConnection {
        self.open.add(1, &self.labels);
        OpenConnection { open: self.open.clone(), labels: self.labels.clone() }
    }

    fn refused(&self) {
        self.refused.add(1, &self.labels);
    }
}

struct OpenConnection {
    open: UpDownCounter<i64>,
    labels: [KeyValue; 1],
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.add(-1, &self.labels);
    }
}
