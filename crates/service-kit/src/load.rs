//! How loaded a service is, said by itself several times a second, so that whoever has work that need not happen
//! now can wait.
//!
//! The HTTP server counts [`requests`] into a [`Load`]; every 250 ms [`Load::run`] looks at what was counted, makes
//! the [`measures`] of the last second of it ([`window`]), and publishes them as a [`LoadReport`].

mod args;
mod report;

mod latencies;
mod measures;
mod metrics;
mod requests;
mod room;
mod uncounted;
mod window;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, connection::State};
use axum::response::Response;
use tokio::{
    runtime::{Handle, RuntimeMetrics},
    time::{MissedTickBehavior, interval, timeout},
};

pub use args::LoadArgs;
pub use report::{LoadReport, subject};
pub use room::Room;
pub(crate) use uncounted::add as add_uncounted;
pub use uncounted::uncounted;

use crate::Shutdown;
use measures::Limits;
use requests::Requests;
pub(crate) use requests::is_shed;
use window::{Look, Window};

/// Often enough that work which is held back goes on soon, and that a service which falls silent is noticed.
pub const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Measures the load of one instance of a service. Cheap to clone.
#[derive(Clone)]
pub struct Load(Arc<Inner>);

struct Inner {
    service: &'static str,
    instance: String,
    args: LoadArgs,
    queue: Queue,
    requests: Requests,
    /// As many as connections, each of which has one request under way at the most; the server knows.
    in_flight_max: AtomicU64,
    latest: Mutex<Option<LoadReport>>,
}

/// What waits inside the service for its turn.
pub struct Queue {
    /// How much there is now.
    pub length: Box<dyn Fn() -> u64 + Send + Sync>,
    pub max: u64,
}

impl Load {
    pub fn new(service: &'static str, instance: impl ToString, args: LoadArgs, queue: Queue) -> Self {
        let load = Self(Arc::new(Inner {
            service,
            instance: instance.to_string(),
            args,
            queue,
            requests: Requests::new(),
            in_flight_max: AtomicU64::new(0),
            latest: Mutex::default(),
        }));
        metrics::observe(&load);
        load
    }

    /// Says the load until `shutdown`, as well as it can: a report that cannot be sent at once is not sent.
    pub async fn run(self, client: Client, namespace: String, shutdown: Shutdown) {
        let subject = subject(&namespace, &self.0.args.region, self.0.service);
        let reporting = async {
            let runtime = Handle::current().metrics();
            let mut window = Window::from(self.look(&runtime));
            let mut ticks = interval(REPORT_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first is at once.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let report = self.report(&mut window, &runtime);
                publish(&client, &subject, &report).await;
                *self.latest() = Some(report);
            }
        };
        tokio::select! {
            () = reporting => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Answers a request, which counts until its answer begins.
    pub(crate) async fn measure(&self, answering: impl Future<Output = Response>) -> Response {
        self.0.requests.measure(answering).await
    }

    /// A request was refused because of load before anybody read it.
    pub(crate) fn shed(&self) {
        self.0.requests.shed.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_in_flight_max(&self, in_flight_max: usize) {
        self.0.in_flight_max.store(in_flight_max as u64, Relaxed);
    }

    fn look(&self, runtime: &RuntimeMetrics) -> Look {
        let workers = runtime.num_workers();
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        let requests = &self.0.requests;
        Look {
            at: Instant::now(),
            busy: busy / u32::try_from(workers).unwrap_or(1).max(1),
            latencies: requests.latencies.counts(),
            shed: self.shed_count(),
            in_flight: requests.take_most(),
            queued: (self.0.queue.length)(),
        }
    }

    fn report(&self, window: &mut Window, runtime: &RuntimeMetrics) -> LoadReport {
        let measures = window.go_on(self.look(runtime));
        let Inner { service, instance, args, queue, in_flight_max, .. } = &*self.0;
        let limits =
            Limits { in_flight: in_flight_max.load(Relaxed), queued: queue.max, p99: args.p99_target() };
        LoadReport::new(service, instance, &args.region, &measures, &limits)
    }

    fn service(&self) -> &'static str {
        self.0.service
    }

    fn shed_count(&self) -> u64 {
        self.0.requests.shed.load(Relaxed)
    }

    fn latest(&self) -> MutexGuard<'_, Option<LoadReport>> {
        // A report is replaced as a whole, so a panic cannot leave half of one.
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn publish(client: &Client, subject: &str, report: &LoadReport) {
    // While the server is away, what is published is kept for later, when it would no longer be true.
    if client.connection_state() != State::Connected {
        return;
    }
    let json = serde_json::to_vec(report).expect("a report is strings and numbers");
    match timeout(REPORT_EVERY, client.publish(subject.to_owned(), json.into())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the load cannot be said"),
        Err(_) => tracing::debug!("the load could not be said in time"),
    }
}
