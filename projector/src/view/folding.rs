//! A build that is being folded: the reader before it, the folder that writes it, and what is done about an
//! event that cannot be applied.
//!
//! Folding in bulk cannot tell which event is to blame. So when it fails for a reason that an event may have,
//! everything since the last commit is thrown away, and the same part of the log is folded frame by frame; the
//! frame that fails again is folded event by event, which puts the key to blame into quarantine.

use std::time::{Duration, SystemTime};

use domain::view::Definition;
use event_log::EventLog;
use service_kit::trace::{self, SPANS_TOGETHER_MAX};
use sqlx::PgConnection;
use tokio::time::Instant;

use super::{
    batch::{Batch, UnknownEvents},
    behind::Behind,
    error::ViewError,
    folder::{Committed, Folder},
    reader::Reader,
    spans::BatchSpans,
};
use crate::registry::Build;

pub struct Folding {
    pub folder: Folder,
    reader: Reader,
    /// Up to this position it is folded frame by frame.
    careful_until: u64,
    /// Writes while more is taken in; without, one is done after the other.
    behind: Option<Behind>,
    /// Where events come from, if spans are to tell of it.
    told_of: Option<String>,
}

/// How a build is folded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub unknown_events: UnknownEvents,
    /// Memory for rows.
    pub bytes_max: usize,
    /// Up to this position frame by frame.
    pub careful_until: u64,
}

/// How much is folded into one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// More is taken in for so long at the most.
    pub within: Duration,
    /// The reader is waited for so long.
    pub patience: Duration,
    /// Nothing more is taken in once this position is reached.
    pub until: u64,
}

/// What one transaction did.
#[derive(Debug)]
pub struct Step {
    pub committed: Committed,
    /// Events that were read for it.
    pub events: u64,
    pub took: Duration,
    /// They end with the signal of what was committed.
    pub spans: Option<BatchSpans>,
}

impl Folding {
    /// For a build that this session has locked.
    pub async fn open(
        connection: &mut PgConnection,
        log: &EventLog,
        definition: &'static Definition,
        build: &Build,
        settings: Settings,
    ) -> Result<Self, ViewError> {
        let Settings { unknown_events, bytes_max, careful_until } = settings;
        let folder = Folder::open(connection, definition, build, bytes_max).await?;
        let reader = Reader::start(log, folder.stored, definition, unknown_events);
        Ok(Self { folder, reader, careful_until, behind: None, told_of: None })
    }

    /// From now on, spans tell of events that are traced, and come from `subject`.
    pub fn tell_of(&mut self, subject: String) {
        self.told_of = Some(subject);
    }

    /// From now on, what is committed is written in a session of its own while more is taken in: it is certain
    /// only after [`Folding::finish`].
    pub fn write_behind(&mut self, connection: PgConnection) {
        self.behind = Some(Behind::new(connection));
    }

    /// Waits until everything is written that was committed.
    pub async fn finish(&mut self) -> Result<(), ViewError> {
        let Some(behind) = &mut self.behind else { return Ok(()) };
        let done = behind.done(&mut self.folder).await;
        self.note_poison(done, self.folder.position())
    }

    /// If an event may be to blame, all up to `end` is to be folded carefully.
    fn note_poison<T>(&mut self, result: Result<T, ViewError>, end: u64) -> Result<T, ViewError> {
        if result.as_ref().is_err_and(ViewError::may_be_poison) {
            self.careful_until = end;
        }
        result
    }

    /// Waits for what comes next. The first batch shows that the checkpoint was found in the log; it may be
    /// empty.
    pub async fn next(&mut self) -> Result<Batch, ViewError> {
        self.reader.next().await
    }

    /// Folds the batch, and those that follow soon, in one transaction. After an error nothing may be done
    /// with this but to ask [`Folding::careful_until`], and to open it anew.
    pub async fn commit(
        &mut self,
        connection: &mut PgConnection,
        batch: Batch,
        gather: Gather,
    ) -> Result<Step, ViewError> {
        let started = Instant::now();
        if self.folder.position() >= self.careful_until {
            return self.fold_in_bulk(connection, batch, gather, started).await;
        }
        let committed = self.fold_carefully(connection, &batch).await?;
        Ok(Step { committed, events: batch.read, took: started.elapsed(), spans: None })
    }

    async fn fold_in_bulk(
        &mut self,
        connection: &mut PgConnection,
        batch: Batch,
        gather: Gather,
        started: Instant,
    ) -> Result<Step, ViewError> {
        let (mut events, mut traced, mut spans) = (0, Vec::new(), None);
        let mut end = self.folder.position();
        let mut next = Some(batch);
        let folded = async {
            while let Some(batch) = next.take() {
                events += batch.read;
                let room = SPANS_TOGETHER_MAX - traced.len();
                traced.extend(batch.traced.into_iter().take(room));
                end = batch.frames.last().map_or(end, |frame| frame.end.position);
                self.folder.take(connection, &batch.frames).await?;
                if !self.folder.is_full() && end < gather.until && started.elapsed() < gather.within {
                    next = self.reader.next_within(gather.patience).await;
                }
            }
            if let Some(subject) = &self.told_of {
                let began = SystemTime::now() - started.elapsed();
                spans = BatchSpans::begin(self.folder.definition.name, subject, &traced, began);
            }
            match &mut self.behind {
                Some(behind) => behind.begin(&mut self.folder).await,
                None => {
                    let table = &self.folder.table.name;
                    let committing = spans.as_ref().and_then(|spans| spans.committing(table));
                    trace::within(committing.as_ref(), self.folder.commit(connection)).await
                }
            }
        };
        let folded = folded.await;
        let folded = self.note_poison(folded, end);
        let committed =
            folded.inspect_err(|_| spans.iter().for_each(|spans| spans.failed("not_committed")))?;
        Ok(Step { committed, events, took: started.elapsed(), spans })
    }

    async fn fold_carefully(
        &mut self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Committed, ViewError> {
        for frame in &batch.frames {
            let folded = async {
                self.folder.take(connection, std::slice::from_ref(frame)).await?;
                self.folder.commit(connection).await
            };
            match folded.await {
                Err(error) if error.may_be_poison() => {
                    self.folder.fold_singly(connection, frame).await?;
                }
                committed => {
                    committed?;
                }
            }
        }
        // Nothing is left to be written; several transactions cannot be told row by row.
        let committed = self.folder.commit(connection).await?;
        Ok(Committed { changes: None, ..committed })
    }

    /// Up to where the next folding of this build should be careful.
    pub fn careful_until(&self) -> u64 {
        self.careful_until
    }
}
