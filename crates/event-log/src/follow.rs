//! Following the log from a checkpoint: in order, without a gap, on the log that the checkpoint is of.

use std::time::Duration;

use async_nats::Subscriber;
use futures::{FutureExt, StreamExt};

use uuid::Uuid;

use crate::{
    frame::Frame,
    log::{Checkpoint, EventLog, LogError},
    read::Reader,
};

/// A reader that has read everything looks again after this long, should the hint that a frame was
/// appended be lost; and then also looks whether the log is still the one it knows.
const IDLE_RECHECK: Duration = Duration::from_millis(500);

/// Why following stopped.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Passing: ask for the next frames again, after a pause.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The log is not the one that was read so far: it was replaced, or lost its end.
    #[error(
        "the log is not the one that was read up to position {position}: its frame {sequence} is {found}, \
         expected {expected}. The stream was replaced or lost its end; restore it, or rebuild from position 0"
    )]
    Replaced { position: u64, sequence: u64, expected: String, found: String },
    /// The log breaks its own rules, so nothing after this place can be trusted.
    #[error("the log is broken after position {position}: {problem}")]
    Broken { position: u64, problem: String },
}

/// Reads a log in order, for ever. See [`EventLog::follow`].
pub struct Follower {
    log: EventLog,
    checkpoint: Checkpoint,
    term: u64,
    /// The checkpoint was compared with the log since the last trouble.
    is_compared: bool,
    /// A frame was said to have been appended since the last read.
    is_hinted: bool,
    connection: Option<Connection>,
}

struct Connection {
    reader: Reader,
    /// JetStream says here that a frame was stored. Only a hint: it may be lost.
    appended: Subscriber,
}

impl Follower {
    pub(crate) fn new(log: EventLog, checkpoint: Checkpoint) -> Self {
        Self { log, checkpoint, term: 0, is_compared: false, is_hinted: false, connection: None }
    }

    /// Up to where frames have been returned.
    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// The next frames, at least one: waits until there are any. After [`FollowError::Unavailable`] it may
    /// be called again; the other errors are lasting.
    pub async fn next(&mut self) -> Result<Vec<Frame>, FollowError> {
        loop {
            let frames = self.available().await?;
            if !frames.is_empty() {
                return Ok(frames);
            }
            self.wait().await;
        }
    }

    /// The next frames that are there now; none if everything has been read.
    pub async fn available(&mut self) -> Result<Vec<Frame>, FollowError> {
        let result = self.read().await;
        if result.is_err() {
            self.is_compared = false;
        }
        result
    }

    async fn read(&mut self) -> Result<Vec<Frame>, FollowError> {
        if self.connection.is_none() {
            let appended = self.log.client.subscribe(format!("{}.appended.0", self.log.namespace));
            self.connection = Some(Connection {
                appended: appended.await.map_err(|error| FollowError::Unavailable(error.to_string()))?,
                reader: Reader::new(self.log.clone()).await.map_err(|error| self.explain(error))?,
            });
        }
        if !self.is_compared {
            self.compare().await?;
            self.is_compared = true;
        }
        let next = self.checkpoint.frame_sequence + 1;
        let mut frames = self.reader().frames(next).await.map_err(|error| self.explain(error))?;
        if std::mem::take(&mut self.is_hinted) && frames.is_empty() {
            // The frame that was appended is none that follows: perhaps the log is another one, and shorter.
            self.is_compared = false;
        }
        for (index, frame) in frames.iter().enumerate() {
            match self.check(frame) {
                Ok(()) => {}
                Err(error) if index == 0 => return Err(error),
                // What is in order goes first; the next read meets the error.
                Err(_) => {
                    frames.truncate(index);
                    break;
                }
            }
            self.term = frame.term;
            self.checkpoint = Checkpoint {
                position: frame.last(),
                frame_sequence: frame.sequence,
                frame_id: Some(frame.id),
            };
        }
        Ok(frames)
    }

    /// The frame that was read last must still be where it was.
    async fn compare(&mut self) -> Result<(), FollowError> {
        let Checkpoint { frame_sequence, frame_id: Some(expected), .. } = self.checkpoint else {
            return Ok(());
        };
        let found = self.reader().message(frame_sequence).await.map_err(|error| self.explain(error))?;
        if found.map(|(place, _)| place.id) == Some(expected) {
            return Ok(());
        }
        // A follower replica may lag behind a reader that another replica served, so the leader decides.
        let found = self.log.place_at(frame_sequence).await.map_err(|error| self.explain(error))?;
        if found.map(|place| place.id) == Some(expected) {
            return Ok(());
        }
        Err(self.replaced(found.map(|place| place.id)))
    }

    /// Whether the frame follows on what was read so far.
    fn check(&self, frame: &Frame) -> Result<(), FollowError> {
        let Checkpoint { position, frame_sequence, frame_id } = self.checkpoint;
        let broken = |problem: String| {
            let problem = format!("the frame at sequence {} {problem}", frame.sequence);
            Err(FollowError::Broken { position, problem })
        };
        if frame.sequence != frame_sequence + 1 {
            return broken(format!("comes after sequence {frame_sequence}; frames are missing between them"));
        }
        if frame.previous != frame_id {
            return Err(self.replaced(frame.previous));
        }
        if frame.first != position + 1 {
            return broken(format!("starts at position {}, expected {}", frame.first, position + 1));
        }
        if frame.term < self.term {
            return broken(format!("is of term {}, after one of term {}", frame.term, self.term));
        }
        Ok(())
    }

    /// The frame that was read last is not in the log; `found` stands in its place.
    fn replaced(&self, found: Option<Uuid>) -> FollowError {
        let Checkpoint { position, frame_sequence: sequence, frame_id: expected } = self.checkpoint;
        let name = |id: Option<Uuid>| id.map_or("missing".to_owned(), |id| id.to_string());
        FollowError::Replaced { position, sequence, expected: name(expected), found: name(found) }
    }

    /// Until a frame was appended, or it is time to look without having been told.
    pub async fn wait(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        match tokio::time::timeout(IDLE_RECHECK, connection.appended.next()).await {
            // One look serves all hints that have arrived.
            Ok(Some(_)) => {
                self.is_hinted = true;
                while let Some(Some(_)) = connection.appended.next().now_or_never() {}
            }
            Ok(None) => self.connection = None,
            Err(_) => self.is_compared = false,
        }
    }

    fn reader(&mut self) -> &mut Reader {
        &mut self.connection.as_mut().expect("read() connects before it reads").reader
    }

    fn explain(&self, error: LogError) -> FollowError {
        match error {
            LogError::Unavailable(reason) => FollowError::Unavailable(reason),
            LogError::Unsuitable { .. } | LogError::Frame(_) => {
                FollowError::Broken { position: self.checkpoint.position, problem: error.to_string() }
            }
        }
    }
}
