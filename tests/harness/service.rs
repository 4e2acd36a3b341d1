//! A service that runs inside the test's process.

use service_kit::Shutdown;
use tokio::{net::TcpListener, task::JoinHandle};

/// What answers at a URL.
pub trait Served {
    fn url(&self) -> &str;
}

/// A service that runs inside the test's process.
pub struct Service {
    pub url: String,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Served for Service {
    fn url(&self) -> &str {
        &self.url
    }
}

impl Service {
    /// Starts one on a free port.
    pub async fn start<F>(serve: impl FnOnce(TcpListener, Shutdown) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let task = tokio::spawn(serve(listener, shutdown.clone()));
        Self { url, shutdown, task }
    }

    /// Ends the service as SIGTERM would.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }

    /// Ends the service between any two steps, as a crash would.
    pub async fn crash(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}
