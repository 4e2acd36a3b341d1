//! The state store: one more view of the log, on local disk, with what was changed last and what is asked for
//! often in memory. It may be deleted at any moment; the log has it all.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Claim, Timestamp, UnreadableEvent};
use event_log::{Checkpoint, Frame, Head};
use quick_cache::sync::Cache;
use tokio::task::JoinHandle;

use super::{
    changes::{Address, Changes, Folded, KeyedOutcome},
    disk::{self, Disk, Progress},
    speculation::Speculation,
};

/// Aggregates that are kept in memory because they were asked for: about 30 MB.
const HOT_AGGREGATES: usize = 50_000;
/// So many changes make a batch for the disk.
const BATCH_CHANGES: usize = 60_000;
/// Changes wait at most this long for others to share their batch, as long as commands come.
const BATCH_WAIT: Duration = Duration::from_secs(2);
/// So many changes may wait in memory while a batch is being written.
const WAITING_CHANGES_MAX: usize = 90_000;

pub struct Store {
    folder: PathBuf,
    disk: Arc<Disk>,
    hot: Cache<Address, Arc<Folded>>,
    /// In the log, not yet on disk.
    recent: Changes,
    /// On their way to the disk.
    writing: Option<Writing>,
    written: Instant,
    checkpoint: Checkpoint,
    time: Timestamp,
}

struct Writing {
    changes: Arc<Changes>,
    task: JoinHandle<Result<(), StoreError>>,
}

/// The store cannot go on. Whatever it is, throwing the store away and folding the log again helps, unless
/// the log itself, or the disk, is to blame.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state folder {} is in use by another process; give each its own with --state-dir or HEADWATER_STATE_DIR", folder.display())]
    InUse { folder: PathBuf },
    #[error("the state folder {} (--state-dir, HEADWATER_STATE_DIR): {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error("the state store: {0}")]
    Disk(#[from] fjall::Error),
    #[error("the state store is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
    #[error("event {position} says that the event before it is {previous}, but that is {revision}")]
    BrokenChain { position: u64, previous: u64, revision: u64 },
}

impl StoreError {
    pub(super) fn damaged(what: impl ToString) -> Self {
        Self::Damaged(what.to_string())
    }
}

impl Store {
    /// Opens the store in `folder`; an empty one if there is none that is of use.
    pub async fn open(folder: PathBuf) -> Result<Self, StoreError> {
        let place = folder.clone();
        let opening = tokio::task::spawn_blocking(move || Disk::open(&place));
        let (disk, progress) = opening.await.map_err(StoreError::damaged)??;
        Ok(Self {
            folder,
            disk: Arc::new(disk),
            hot: Cache::new(HOT_AGGREGATES),
            recent: Changes::default(),
            writing: None,
            written: Instant::now(),
            checkpoint: progress.into(),
            time: Timestamp::from_micros(progress.time).unwrap_or(Timestamp::EARLIEST),
        })
    }

    /// Throws everything away, so that the log is folded again from its start.
    pub async fn discard(self) -> Result<(), StoreError> {
        let Self { folder, disk, writing, .. } = self;
        if let Some(writing) = writing {
            // Whatever came of it is thrown away.
            let _ = writing.task.await;
        }
        drop(disk);
        disk::remove(&folder)
    }

    /// Writes what is not yet on disk.
    pub async fn close(mut self) -> Result<(), StoreError> {
        self.write().await?;
        self.settle().await
    }

    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// The time of the last event.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Folds a frame that was read from the log.
    pub async fn apply(&mut self, frame: Frame) -> Result<(), StoreError> {
        let checkpoint =
            Checkpoint { position: frame.last(), frame_sequence: frame.sequence, frame_id: Some(frame.id) };
        let recent = std::mem::take(&mut self.recent);
        let mut speculation = Speculation::on(self, recent);
        for envelope in frame.events {
            speculation.replay(envelope)?;
        }
        self.recent = speculation.finish();
        self.reached(checkpoint).await
    }

    /// Takes over what was decided for a frame, now that the frame is in the log.
    pub async fn commit(&mut self, changes: Changes, head: Head) -> Result<(), StoreError> {
        self.recent.merge(changes);
        self.reached(head.into()).await
    }

    /// The state is now that of the log up to `checkpoint`.
    async fn reached(&mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.checkpoint = checkpoint;
        self.time = self.recent.time.unwrap_or(self.time);
        if self.writing.as_ref().is_some_and(|writing| writing.task.is_finished())
            || self.recent.len() >= WAITING_CHANGES_MAX
        {
            self.settle().await?;
        }
        let is_due = self.recent.len() >= BATCH_CHANGES || self.written.elapsed() >= BATCH_WAIT;
        if is_due && self.writing.is_none() {
            self.write().await?;
        }
        Ok(())
    }

    /// Starts writing what is not yet on disk.
    async fn write(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        let Checkpoint { position, frame_sequence, frame_id } = self.checkpoint;
        let progress = Progress { position, frame_sequence, frame_id, time: self.time.micros() };
        let room = Changes::with_room_like(&self.recent);
        let changes = Arc::new(std::mem::replace(&mut self.recent, room));
        let (disk, batch) = (self.disk.clone(), changes.clone());
        let task = tokio::task::spawn_blocking(move || disk.write(&batch, progress));
        self.writing = Some(Writing { changes, task });
        self.written = Instant::now();
        Ok(())
    }

    /// Until nothing is being written.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(Writing { changes, task }) = self.writing.take() else { return Ok(()) };
        task.await.map_err(StoreError::damaged)??;
        for (address, folded) in &changes.aggregates {
            // What nobody has asked for does not get in: of very many, none is likelier to be asked for.
            let _ = self.hot.replace(*address, folded.clone(), true);
        }
        Ok(())
    }

    pub(super) fn aggregate(&self, address: Address) -> Result<Arc<Folded>, StoreError> {
        let unwritten = self.unwritten().find_map(|changes| changes.aggregates.get(&address));
        if let Some(folded) = unwritten.cloned().or_else(|| self.hot.get(&address)) {
            return Ok(folded);
        }
        match self.disk.aggregate(address)? {
            Some(folded) => {
                let folded = Arc::new(folded);
                self.hot.insert(address, folded.clone());
                Ok(folded)
            }
            None => Ok(Folded::initial(address)),
        }
    }

    pub(super) fn holder(&self, claim: &Claim) -> Result<Option<Address>, StoreError> {
        match self.unwritten().find_map(|changes| changes.claims.get(claim)) {
            Some(holder) => Ok(*holder),
            None => self.disk.holder(claim),
        }
    }

    pub(super) fn outcome(&self, name: (Address, String)) -> Result<Option<KeyedOutcome>, StoreError> {
        match self.unwritten().find_map(|changes| changes.outcomes.get(&name)) {
            Some(outcome) => Ok(Some(outcome.clone())),
            None => self.disk.outcome(name.0, &name.1),
        }
    }

    /// What the disk may not know yet, the latest first.
    fn unwritten(&self) -> impl Iterator<Item = &Changes> {
        std::iter::once(&self.recent).chain(self.writing.as_ref().map(|writing| &*writing.changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_in_memory_is_never_older_than_what_is_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path().join("state")).await.unwrap();
        let address = (domain::Kind::Account, uuid::Uuid::now_v7());
        // More than are kept in memory change together.
        let others: Vec<Address> =
            (0..2 * HOT_AGGREGATES).map(|_| (address.0, uuid::Uuid::now_v7())).collect();
        for revision in 1..=3 {
            for address in others.iter().chain([&address]) {
                let folded = Folded { state: address.0.initial(), revision };
                store.recent.aggregates.insert(*address, Arc::new(folded));
            }
            store.write().await.unwrap();
            store.settle().await.unwrap();
            assert_eq!(store.aggregate(address).unwrap().revision, revision);
        }
    }
}
