//! Reads and decodes ahead of the transactions, in a task of its own.

use domain::view::Definition;
use event_log::{EventLog, Follower, Frame};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
};

use super::{batch::Batch, error::ViewError};

/// Batches that wait for the transaction before them.
const BATCHES_AHEAD: usize = 2;
/// A transaction folds about this many events at the most: few round trips an event, while what is in
/// memory, and what a rollback costs, stays small.
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
    pub fn start(log: &EventLog, start: event_log::Checkpoint, definition: &'static Definition) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let follower = log.follow(start);
        let task = tokio::spawn(async move {
            // Nobody receives any more: the session is over.
            let _ = read(follower, definition, sender).await;
        });
        Self { batches, error: None, task }
    }

    /// The next batch: what was read meanwhile, as far as it is good for one transaction. Waits until there
    /// is something. Nothing is lost when it is dropped before it is done.
    pub async fn next(&mut self) -> Result<Batch, ViewError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut batch = self.batches.recv().await.unwrap_or(Err(ViewError::ReaderGone))?;
        while batch.read < BATCH_EVENTS_MAX {
            match self.batches.try_recv() {
                Ok(Ok(next)) => batch.append(next),
                Ok(Err(error)) => {
                    self.error = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(batch)
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
    batches: Sender<Result<Batch, ViewError>>,
) -> Sent {
    let start = follower.checkpoint();
    match follower.available().await {
        Ok(frames) if frames.is_empty() => batches.send(Ok(Batch::at(start))).await?,
        Ok(frames) => send(&frames, definition, &batches).await?,
        Err(error) => return batches.send(Err(error.into())).await,
    }
    loop {
        match follower.next().await {
            Ok(frames) => send(&frames, definition, &batches).await?,
            Err(error) => return batches.send(Err(error.into())).await,
        }
    }
}

/// Sends frames as batches of a good size. What comes before a frame that cannot be decoded goes first.
async fn send(frames: &[Frame], definition: &Definition, batches: &Sender<Result<Batch, ViewError>>) -> Sent {
    let mut batch = Batch::default();
    for frame in frames {
        if let Err(error) = batch.push(frame, definition) {
            if batch.end.frame_sequence > 0 {
                batches.send(Ok(batch)).await?;
            }
            return batches.send(Err(error)).await;
        }
        if batch.read >= BATCH_EVENTS_MAX {
            batches.send(Ok(std::mem::take(&mut batch))).await?;
        }
    }
    if batch.end.frame_sequence > 0 {
        batches.send(Ok(batch)).await?;
    }
    Ok(())
}
