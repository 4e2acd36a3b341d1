//! How telemetry reaches the collector: over HTTP, in the service's own runtime. A collector that is away or slow costs
//! what was to be sent, and one line in the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::body::Body;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use crate::client::Client;

/// What takes longer than this to be sent is given up.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);
/// All that an answer may say is how much was not taken.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collector {
    client: Client,
    runtime: Handle,
    is_away: Arc<AtomicBool>,
}

impl Collector {
    /// Sends in the runtime that this is called in.
    pub fn new() -> Self {
        Self {
            client: Client::for_scheme("http").expect("without TLS nothing is needed"),
            runtime: Handle::current(),
            is_away: Arc::default(),
        }
    }

    /// Says so when the collector goes or comes, and not in between.
    fn note(&self, failure: Option<String>) {
        match (failure, self.is_away.load(Relaxed)) {
            (Some(error), false) => {
                self.is_away.store(true, Relaxed);
                tracing::warn!(
                    error,
                    "the collector takes no telemetry; what is not sent is dropped until it does"
                );
            }
            (None, true) => {
                self.is_away.store(false, Relaxed);
                tracing::info!("the collector takes telemetry again");
            }
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    /// Called by threads outside of any runtime, one a signal.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let request = request.map(Body::from);
        let sending =
            self.runtime.spawn(async move { client.ask(request, SEND_TIME_MAX, ANSWER_BYTES_MAX).await });
        let sent = match sending.await {
            Ok(sent) => sent.map_err(HttpError::from),
            Err(ended) => Err(ended.into()),
        };
        self.note(match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(chain(error.as_ref())),
        });
        sent
    }
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
