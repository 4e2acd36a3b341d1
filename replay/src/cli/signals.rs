//! Being told to stop.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C: somebody sits there.
    Interrupt,
    /// SIGTERM: who looks after programs wants this one to end.
    Terminate,
}

impl Stop {
    /// How a command ends by it: one that follows the log is meant to have no other end than SIGTERM.
    pub fn outcome(self, follows: bool) -> Outcome {
        match (self, follows) {
            (Self::Terminate, true) => Outcome::Fine,
            _ => Outcome::Interrupted,
        }
    }
}

/// From when this is made on, neither signal ends the program by itself.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn listen() -> Result<Self> {
        let of = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    /// Comes back once there was one.
    pub async fn stop(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }
}
