//! The writer: one task that owns the state. It takes what has arrived, decides each command against the
//! state and what this frame has decided already, appends one frame, applies it, answers.

mod decision;
mod store;
mod submission;

pub use submission::{Handle, IdempotencyKey, Meta, Outcome, Refusal, Request};

use std::time::{Duration, Instant};

use domain::Timestamp;
use event_log::{AppendError, Encoded, EventLog, FollowError, Head, LogError, NewFrame};
use service_kit::Health;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::metrics::Metrics;
use decision::{Decided, Frame};
use store::{Changes, Store, StoreError};
use submission::{Answer, Submission};

pub const HEALTH_CHECK: &str = "writer";
/// Commands decided together at the most. More would not make a frame cheaper, only its answer later.
const FRAME_COMMANDS_MAX: usize = 1000;
/// The pause before the writer opens its state again after trouble.
const REOPEN_DELAY: Duration = Duration::from_millis(100);

/// Starts the writer. It ends when the last handle is gone and the queue is empty.
pub fn spawn(log: EventLog, queue_commands_max: usize, health: Health) -> (Handle, JoinHandle<()>) {
    let (sender, queue) = mpsc::channel(queue_commands_max);
    let (is_ready, ready) = watch::channel(false);
    let writer = Writer { log, queue, is_ready, health, metrics: Metrics::new() };
    (Handle::new(sender, ready), tokio::spawn(writer.run()))
}

struct Writer {
    log: EventLog,
    queue: mpsc::Receiver<Submission>,
    is_ready: watch::Sender<bool>,
    health: Health,
    metrics: Metrics,
}

/// The commands of one frame, decided and not yet answered.
struct Round {
    answers: Vec<(Submission, Answer)>,
    /// Commands that wait for the next frame.
    left: Vec<Submission>,
    events: Encoded,
    changes: Changes,
}

/// Why a term ended.
enum TermEnd {
    /// Nobody can send commands any more.
    Finished,
    /// The writer cannot tell what the end of the log is, or another writer appended.
    Lost(String),
}

/// Why the writer's state could not be brought up to the end of the log.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("the log cannot be folded: {0}")]
    Store(#[from] StoreError),
    #[error("the term could not be opened: {0}")]
    Term(#[from] AppendError),
}

impl Writer {
    async fn run(mut self) {
        let mut store = Store::default();
        let mut last_reason = String::new();
        loop {
            let reason = match self.open(&mut store).await {
                Ok(head) => {
                    self.health.pass(HEALTH_CHECK);
                    self.is_ready.send_replace(true);
                    last_reason.clear();
                    match self.write(&mut store, head).await {
                        TermEnd::Finished => return,
                        TermEnd::Lost(reason) => reason,
                    }
                }
                Err(error) => {
                    if matches!(error, OpenError::Follow(FollowError::Replaced { .. })) {
                        tracing::error!(%error, "the log is another one than before; reading it from its start");
                        store = Store::default();
                    }
                    error.to_string()
                }
            };
            // A reason that lasts is told once.
            if reason != last_reason {
                tracing::warn!(reason, "not writing; opening the state again");
            }
            self.health.fail(HEALTH_CHECK, &reason);
            last_reason = reason;
            self.is_ready.send_replace(false);
            if self.refuse_waiting() {
                return;
            }
            tokio::time::sleep(REOPEN_DELAY).await;
        }
    }

    /// Brings the store up to the end of the log, and opens a term: from then on nobody who wrote before
    /// can append, and no frame that is still on its way can arrive.
    async fn open(&self, store: &mut Store) -> Result<Head, OpenError> {
        self.log.ensure().await?;
        let started = Instant::now();
        let from = store.checkpoint().position;
        let head = self.log.head().await?;
        let mut follower = self.log.follow(store.checkpoint());
        loop {
            for frame in follower.available().await? {
                store.apply(frame)?;
            }
            if store.checkpoint().frame_sequence >= head.sequence {
                break;
            }
        }
        let frame = NewFrame::new(head, head.term + 1, Default::default());
        let head = self.log.append(&frame, head).await?;
        store.opened(head);
        self.metrics.reached(head.position);
        tracing::info!(term = head.term, position = head.position, replayed = head.position - from,
            took = ?started.elapsed(), "writing");
        Ok(head)
    }

    /// Decides and appends until the term ends.
    async fn write(&mut self, store: &mut Store, mut head: Head) -> TermEnd {
        let mut waiting: Vec<Submission> = Vec::new();
        loop {
            // What did not fit into the last frame goes first.
            if waiting.is_empty() && self.queue.recv_many(&mut waiting, FRAME_COMMANDS_MAX).await == 0 {
                return TermEnd::Finished;
            }
            let Round { answers, left, events, changes } = self.decide(store, head, waiting);
            match self.append(store, head, events, changes).await {
                Ok(reached) => head = reached,
                Err(error) => {
                    let reason = error.to_string();
                    let refusal = Refusal::from(error);
                    answers.into_iter().for_each(|(submission, _)| submission.answer(Err(refusal.clone())));
                    left.into_iter().for_each(|submission| submission.answer(Err(Refusal::NoWriter)));
                    return TermEnd::Lost(reason);
                }
            }
            answers.into_iter().for_each(|(submission, answer)| submission.answer(answer));
            waiting = left;
        }
    }

    /// Decides as many of the commands, in their order, as fit into one frame.
    fn decide(&self, store: &Store, head: Head, waiting: Vec<Submission>) -> Round {
        let bytes_max = self.log.frame_bytes_max();
        let mut frame = Frame::new(store, head, self.log.namespace(), bytes_max, now(store));
        let mut answers = Vec::with_capacity(waiting.len());
        let mut waiting = waiting.into_iter();
        let mut left = Vec::new();
        for submission in waiting.by_ref() {
            match frame.decide(&submission.request) {
                Decided::Answer(answer) => answers.push((submission, answer)),
                Decided::FrameIsFull => {
                    left.push(submission);
                    break;
                }
            }
        }
        left.extend(waiting);
        self.metrics.decided(answers.len());
        let (events, changes) = frame.finish();
        Round { answers, left, events, changes }
    }

    /// Makes it certain that what was decided may be answered: the events are in the log, or, where there are
    /// none, nobody else has written since.
    async fn append(
        &self,
        store: &mut Store,
        head: Head,
        events: Encoded,
        changes: Changes,
    ) -> Result<Head, AppendError> {
        if events.count() == 0 {
            self.prove_still_writer(head).await?;
            return Ok(head);
        }
        let sent = Instant::now();
        let head = self.log.append(&NewFrame::new(head, head.term, events), head).await?;
        self.metrics.appended(sent.elapsed());
        store.commit(changes, head);
        self.metrics.reached(head.position);
        Ok(head)
    }

    /// Answers that rest on the state alone may be given only by who is the writer now: if nothing was
    /// appended since, the state that they were decided on is the latest.
    async fn prove_still_writer(&self, head: Head) -> Result<(), AppendError> {
        match self.log.last_sequence().await {
            Ok(sequence) if sequence == head.sequence => Ok(()),
            Ok(_) => Err(AppendError::Conflict),
            Err(error) => Err(AppendError::Refused(error.to_string())),
        }
    }

    /// Commands that nobody has looked at are refused, so that nobody waits for a writer that may be long
    /// in coming. Returns whether there will be none any more.
    fn refuse_waiting(&mut self) -> bool {
        loop {
            match self.queue.try_recv() {
                Ok(submission) => submission.answer(Err(Refusal::NoWriter)),
                Err(mpsc::error::TryRecvError::Empty) => return false,
                Err(mpsc::error::TryRecvError::Disconnected) => return true,
            }
        }
    }
}

/// The time for the next events: the clock's, unless it went back.
fn now(store: &Store) -> Timestamp {
    let clock = Timestamp::try_from(jiff::Timestamp::now()).unwrap_or(store.time());
    clock.max(store.time())
}
