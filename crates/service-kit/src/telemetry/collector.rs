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
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

/// What takes longer than this to be sent is given up.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);
/// More of an answer is not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    is_away: Arc<AtomicBool>,
}

impl Collector {
    /// Sends in the runtime that this is called in.
    pub fn new() -> Self {
        let client = reqwest::Client::builder().timeout(SEND_TIME_MAX).build();
        Self {
            client: client.expect("a client without TLS needs nothing"),
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
        let sending = self.runtime.spawn(async move {
            let mut answer =
                client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
            let mut body = Vec::new();
            // All that it may say is how much of it was not taken.
            while body.len() < ANSWER_BYTES_MAX
                && let Some(more) = answer.chunk().await?
            {
                body.extend_from_slice(&more);
            }
            Ok::<_, HttpError>(Response::builder().status(answer.status()).body(body.into())?)
        });
        let sent = match sending.await {
            Ok(sent) => sent,
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
