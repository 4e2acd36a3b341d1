//! Reads and decodes ahead of the transactions, in a task of its own.

use std::time::Duration;

use domain::view::Definition;
use event_log::{Checkpoint, EventLog, Follower, Frame};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
    time::timeout,
};

use super::{
    batch::{Batch, UnknownEvents},
    error::ViewError,
};

/// Batches that wait for the transaction before them.
const BATCHES_AHEAD: usize = 2;
/// A batch has about this many events at the most: the rows that it touches are fetched with one statement.
const BATCH_EVENTS_MAX: u64 = 4_000;

pub struct Reader {
    batches: Receiver<Result<Batch, ViewError>>,
    /// Comes after the batches that were read before it.
    error: Option<ViewError>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Reads on after `start`. The first batch comes as soon as the log has been compared with `start`,
    /// even if it is empty.
    pub fn start(
        log: &EventLog,
        start: Checkpoint,
        definition: &'static Definition,
        unknown: UnknownEvents,
    ) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let follower = log.follow(start);
        let task = tokio::spawn(async move {
            // Nobody receives any more: the session is over.
            let _ = read(follower, definition, unknown, sender).await;
        });
        Self { batches, error: None, task }
    }

    /// The next batch. Waits until there is something. Nothing is lost when it is dropped before it is done.
    pub async fn next(&mut self) -> Result<Batch, ViewError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.batches.recv().await.unwrap_or(Err(ViewError::ReaderGone))
    }

    /// The next batch, if it comes within `patience`. An error waits for the next [`Reader::next`].
    pub async fn next_within(&mut self, patience: Duration) -> Option<Batch> {
        if self.error.is_some() {
            return None;
        }
        let next = match self.batches.try_recv() {
            Ok(next) => next,
            Err(_) if patience.is_zero() => return None,
            Err(_) => timeout(patience, self.batches.recv()).await.ok()??,
        };
        next.map_err(|error| self.error = Some(error)).ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Sent = Result<(), mpsc::error::SendError<Result<Batch, ViewError>>>;

async fn read(
    mut follower: Follower,
    definition: &Definition,
    unknown: UnknownEvents,
    batches: Sender<Result<Batch, ViewError>>,
) -> Sent {
    match follower.available().await {
        Ok(frames) if frames.is_empty() => batches.send(Ok(Batch::default())).await?,
        Ok(frames) => send(&frames, definition, unknown, &batches).await?,
        Err(error) => return batches.send(Err(error.into())).await,
    }
    loop {
        match follower.next().await {
            Ok(frames) => send(&frames, definition, unknown, &batches).await?,
            Err(error) => return batches.send(Err(error.into())).await,
        }
    }
}

/// Sends frames as batches of a good size.
async fn send(
    frames: &[Frame],
    definition: &Definition,
    unknown: UnknownEvents,
    batches: &Sender<Result<Batch, ViewError>>,
) -> Sent {
    let mut batch = Batch::default();
    for frame in frames {
        batch.push(frame, definition, unknown);
        if batch.read >= BATCH_EVENTS_MAX {
            batches.send(Ok(std::mem::take(&mut batch))).await?;
        }
    }
    if !batch.is_empty() {
        batches.send(Ok(batch)).await?;
    }
    Ok(())
}
