//! The events of a log from a position on, one by one.

use std::collections::VecDeque;

use domain::{Recorded, UnreadableEvent};
use event_log::{Checkpoint, Envelope, EventLog, Follower, Frame, LogError, Target};

use crate::from;

/// Reads a log on after a checkpoint. What follows is checked to follow: see [`event_log::FollowError`].
pub struct Events {
    follower: Follower,
    read: VecDeque<Envelope>,
    /// The first event to be given, until it was reached.
    from: Option<Target>,
}

impl Events {
    pub fn from_start(log: &EventLog) -> Self {
        Self::after(log, Checkpoint::default())
    }

    pub fn after(log: &EventLog, checkpoint: Checkpoint) -> Self {
        Self { follower: log.follow(checkpoint), read: VecDeque::new(), from: None }
    }

    /// From the target on, which is sought, not read up to.
    pub async fn from(log: &EventLog, target: Target) -> Result<Self, LogError> {
        Ok(Self { from: Some(target), ..Self::after(log, log.seek(target).await?) })
    }

    /// The next event that is there now; none at the end of the log.
    pub async fn available(&mut self) -> anyhow::Result<Option<Envelope>> {
        while self.read.is_empty() {
            let frames = self.follower.available().await?;
            if frames.is_empty() {
                return Ok(None);
            }
            self.take(frames);
        }
        Ok(self.read.pop_front())
    }

    /// The next event: waits until there is one.
    pub async fn next(&mut self) -> anyhow::Result<Envelope> {
        loop {
            if let Some(envelope) = self.read.pop_front() {
                return Ok(envelope);
            }
            let frames = self.follower.next().await?;
            self.take(frames);
        }
    }

    fn take(&mut self, frames: Vec<Frame>) {
        self.read.extend(frames.into_iter().flat_map(|frame| frame.events));
        let Some(target) = self.from else { return };
        // The frame with the target may begin before it.
        while self.read.pop_front_if(|event| !from::is_reached(target, event)).is_some() {}
        if !self.read.is_empty() {
            self.from = None;
        }
    }
}

/// The event of an envelope, as views take it.
pub fn recorded(envelope: &Envelope) -> Result<Recorded, UnreadableEvent> {
    let Envelope { position, time, subject, r#type, data, .. } = envelope;
    Recorded::read(*position, *time, *subject, r#type, envelope.version(), data.get())
}
