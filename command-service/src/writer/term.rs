//! One term: the time in which this instance writes.

use std::time::Instant;

use domain::Timestamp;
use event_log::{AppendError, Encoded, Head, NewFrame};
use service_kit::{lease::Held, trace};

use super::{
    Trouble, Writer,
    decision::{Decided, Frame},
    spans::Traced,
};
use crate::{
    state::{Changes, Store, StoreError},
    submission::{Answer, Refusal, Submission},
};

/// Commands decided together at the most. More would not make a frame cheaper, only its answer later.
const FRAME_COMMANDS_MAX: usize = 1000;

/// Why a term ended without trouble.
pub(super) enum TermEnd {
    /// It is time to leave, and nothing waits any more.
    Finished,
    /// Another instance has taken the lease, or appended.
    Overtaken,
}

/// The commands of one frame, decided and not yet answered.
struct Round {
    answers: Vec<(Submission, Answer)>,
    /// Commands that wait for the next frame.
    left: Vec<Submission>,
    events: Encoded,
    changes: Changes,
    traced: Traced,
}

impl Writer {
    /// Brings the state up to the end of the log, and opens a term: from then on nobody who wrote before can
    /// append, and no frame that is still on its way can arrive.
    pub(super) async fn open_term(&self, store: &mut Store) -> Result<Head, Trouble> {
        let head = self.log.head().await?;
        let mut follower = self.log.follow(store.checkpoint());
        loop {
            for frame in follower.available().await? {
                store.apply(frame).await?;
            }
            if store.checkpoint().frame_sequence >= head.sequence {
                break;
            }
        }
        let frame = NewFrame::new(head, head.term + 1, Encoded::default());
        let head = self.log.append(&frame, head).await.map_err(Trouble::Term)?;
        store.commit(Changes::default(), head).await?;
        self.metrics.reached(head.position);
        tracing::info!(term = head.term, position = head.position, "writing");
        Ok(head)
    }

    /// Decides and appends until the term ends.
    pub(super) async fn write(
        &mut self,
        store: &mut Store,
        mut head: Head,
        held: &Held,
    ) -> Result<TermEnd, Trouble> {
        let mut waiting: Vec<Submission> = Vec::new();
        loop {
            // What did not fit into the last frame goes first.
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = held.lost() => return Ok(TermEnd::Overtaken),
                    count = self.queue.recv_many(&mut waiting, FRAME_COMMANDS_MAX) => if count == 0 {
                        return Ok(TermEnd::Finished);
                    },
                    // Nothing more gets in; what is in is decided.
                    () = self.shutdown.cancelled(), if !self.queue.is_closed() => {
                        self.queue.close();
                        continue;
                    }
                }
            }
            let began = Instant::now();
            let Round { answers, left, events, changes, traced } = self.decide(store, head, waiting)?;
            let commands = answers.len();
            match self.append(head, events, traced).await {
                Ok(reached) => head = reached,
                Err(error) => {
                    let refusal = Refusal::from(&error);
                    answers.into_iter().for_each(|(submission, _)| submission.answer(Err(refusal.clone())));
                    left.into_iter().for_each(|submission| submission.answer(Err(Refusal::NoWriter)));
                    return match error {
                        AppendError::Conflict => Ok(TermEnd::Overtaken),
                        error => Err(Trouble::Append(error)),
                    };
                }
            }
            answers.into_iter().for_each(|(submission, answer)| submission.answer(answer));
            store.commit(changes, head).await?;
            waiting = left;
            match self.queue.is_empty() {
                false => self.room.done(commands, began.elapsed()),
                true => self.room.idle(),
            }
        }
    }

    /// Decides as many of the commands, in their order, as fit into one frame.
    fn decide(&self, store: &Store, head: Head, waiting: Vec<Submission>) -> Result<Round, StoreError> {
        let bytes_max = self.log.frame_bytes_max();
        let mut frame = Frame::new(store, head, self.log.namespace(), bytes_max, now(store));
        let mut answers = Vec::with_capacity(waiting.len());
        let mut waiting = waiting.into_iter();
        let mut left = Vec::new();
        let mut traced = Traced::default();
        for submission in waiting.by_ref() {
            let _span = traced.deciding(&submission.request);
            match frame.decide(&submission.request) {
                Ok(Decided::Answer(answer)) => answers.push((submission, answer)),
                Ok(Decided::FrameIsFull) => {
                    left.push(submission);
                    break;
                }
                Err(error) => {
                    // Without a state there are no decisions; somebody else may have one.
                    let answered = answers.into_iter().map(|(submission, _)| submission);
                    let all = answered.chain([submission]).chain(waiting);
                    all.for_each(|submission| submission.answer(Err(Refusal::NoWriter)));
                    return Err(error);
                }
            }
        }
        left.extend(waiting);
        self.metrics.decided(answers.len());
        let (events, changes) = frame.finish();
        Ok(Round { answers, left, events, changes, traced })
    }

    /// Makes it certain that what was decided may be answered: the events are in the log, or, where there are
    /// none, nobody else has written since.
    async fn append(&self, head: Head, events: Encoded, traced: Traced) -> Result<Head, AppendError> {
        if events.count() == 0 && self.is_certainly_writer(head).await? {
            return Ok(head);
        }
        let sent = Instant::now();
        let span = traced.appending(&self.log, events.count());
        let frame = NewFrame::new(head, head.term, events);
        let appended = trace::within(span.as_ref(), self.log.append(&frame, head)).await;
        let head = appended.inspect_err(|error| span.iter().for_each(|span| span.failed(error.word())))?;
        self.metrics.appended(sent.elapsed());
        self.metrics.reached(head.position);
        Ok(head)
    }

    /// Answers that rest on the state alone may be given only by who is the writer now: if nothing was
    /// appended since, the state that they were decided on is the latest. False if the log cannot tell without
    /// an append, for which a frame without events will do.
    async fn is_certainly_writer(&self, head: Head) -> Result<bool, AppendError> {
        match self.log.certain_last_sequence().await {
            Ok(Some(sequence)) if sequence == head.sequence => Ok(true),
            Ok(Some(_)) => Err(AppendError::Conflict),
            Ok(None) => Ok(false),
            Err(error) => Err(AppendError::Refused(error.to_string())),
        }
    }
}

/// The time for the next events: the clock's, unless it went back.
fn now(store: &Store) -> Timestamp {
    let clock = Timestamp::try_from(jiff::Timestamp::now()).unwrap_or(store.time());
    clock.max(store.time())
}
