//! One token says to the whole process that it is time to finish.

use tokio_util::sync::CancellationToken;

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
