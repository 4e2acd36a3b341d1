//! One token says to the whole process that it is time to finish, another that it is time to leave.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Health;

/// Cancelled when the process should finish what it has and leave.
pub type Shutdown = CancellationToken;

/// A token that is cancelled by Ctrl-C or SIGTERM. Needs a running tokio runtime.
pub fn on_signal() -> std::io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = Shutdown::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        token.cancel();
        tracing::info!("shutting down");
    });
    Ok(shutdown)
}

/// What ends a service that others send requests to: cancelled `drain` after `leaving`. In between the service goes
/// on as before, but says that it is not ready, so that whoever sends it requests has the time to stop.
pub fn drained(leaving: Shutdown, health: Health, drain: Duration) -> Shutdown {
    let shutdown = Shutdown::new();
    let drained = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = leaving.cancelled() => health.leave(),
            // It has ended by itself.
            () = drained.cancelled() => return,
        }
        if !drain.is_zero() {
            tracing::info!(?drain, "not ready any more, and still serving");
            tokio::time::sleep(drain).await;
        }
        drained.cancel();
    });
    shutdown
}
