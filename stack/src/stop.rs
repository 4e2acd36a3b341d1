//! Ctrl-C: the first stops everything in order, a second kills it at once.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::process;

/// What a shell reports for a program that ended by Ctrl-C.
const KILLED: i32 = 130;

#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// From here on SIGINT, SIGTERM and SIGHUP are requests to stop.
    pub fn on_signals() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let (requests, stop) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                if requests.send_replace(true) {
                    process::kill_all();
                    std::process::exit(KILLED);
                }
            }
        });
        Ok(Self(stop))
    }

    /// Waits for the first request to stop.
    pub async fn requested(&self) {
        // The sender lives as long as the runtime.
        let _ = self.0.clone().wait_for(|requested| *requested).await;
    }
}
