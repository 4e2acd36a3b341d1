//! The lines of one import that are under way: sent to the writer in order, as many at a time as may be, and
//! answered in order. A line that the writer cannot take for now is sent again; no later one overtakes it.
//!
//! That rests on the writer's queue: the first poll of a submission puts the command into it or refuses it, and
//! once the writer refuses a command undecided, it refuses all that are queued behind it. So what was sent
//! after a line that must be sent again was refused as well. A line that was rejected meanwhile is sent again
//! all the same, in case it was for want of the earlier one; one that was accepted is not.

use std::{collections::VecDeque, future::ready, ops::ControlFlow, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use service_kit::Problem;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::submission::{Outcome, Refusal, Request};

/// Lines of one import under way at the most: about what the writer puts into one frame.
const LINES_MAX: usize = 1024;
/// Their length in bytes at the most, so that memory is bounded whatever they are made of.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a line is sent again before it fails: longer than another writer needs to take over.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

type Answer = Result<Outcome, Refusal>;
type Submit = dyn Fn(Request) -> BoxFuture<'static, Answer> + Send;

/// A line to be sent: its request, and what came of it when it was sent before, if that had or may have had its
/// effect.
struct Entry {
    line: u64,
    bytes: usize,
    command: Result<(Request, Option<Answer>), Problem>,
}

/// A line with its answer, or with what is wrong with the line itself.
pub struct Answered {
    pub line: u64,
    pub command: Result<(Request, Answer), Problem>,
    bytes: usize,
}

pub struct Window {
    submit: Box<Submit>,
    /// How many commands of all imports may be with the writer.
    room: Arc<Semaphore>,
    /// To be sent, in order: after all that is sent.
    waiting: VecDeque<Entry>,
    sent: FuturesOrdered<BoxFuture<'static, Answered>>,
    /// The first line that must be sent again, and all that were sent after it.
    held: Vec<Answered>,
    /// Nothing more is sent before `held` is sent again.
    is_stalled: bool,
    retry: Retry,
    bytes: usize,
    is_closed: bool,
}

impl Window {
    pub fn new(
        submit: impl Fn(Request) -> BoxFuture<'static, Answer> + Send + 'static,
        room: Arc<Semaphore>,
    ) -> Self {
        Self {
            submit: Box::new(submit),
            room,
            waiting: VecDeque::new(),
            sent: FuturesOrdered::new(),
            held: Vec::new(),
            is_stalled: false,
            retry: Retry::default(),
            bytes: 0,
            is_closed: false,
        }
    }

    pub fn wants_more(&self) -> bool {
        let lines = self.sent.len() + self.held.len();
        self.waiting.is_empty() && lines < LINES_MAX && self.bytes < BYTES_MAX
    }

    pub fn push(&mut self, line: u64, bytes: usize, command: Result<Request, Problem>) {
        self.bytes += bytes;
        let command = command.map(|request| (request, None));
        self.waiting.push_back(Entry { line, bytes, command });
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty() && self.held.is_empty()
    }

    /// Sends nothing more: what is not with the writer is answered that there is none.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Goes on by one step, of which lines may come answered; `Break` when one was sent again for too long.
    /// May be dropped at any point and called again. An empty window has nothing to wait for.
    pub async fn step(&mut self) -> ControlFlow<&'static str, Vec<Answered>> {
        if self.sent.is_empty() && self.is_closed {
            return ControlFlow::Continue(self.give_back());
        }
        if self.sent.is_empty() && self.is_stalled {
            if self.retry.is_too_late() {
                return ControlFlow::Break("The writer has not taken commands for 30 seconds.");
            }
            sleep_until(self.retry.at).await;
            self.take_back();
        }
        let may_send = !self.is_stalled && !self.is_closed && !self.waiting.is_empty();
        let answered = tokio::select! {
            biased;
            Some(answered) = self.sent.next(), if !self.sent.is_empty() => self.settle(answered),
            Ok(room) = self.room.clone().acquire_owned(), if may_send => {
                self.send(room);
                None
            }
        };
        ControlFlow::Continue(Vec::from_iter(answered))
    }

    fn send(&mut self, room: OwnedSemaphorePermit) {
        let Some(Entry { line, bytes, command }) = self.waiting.pop_front() else { return };
        let answered = move |command| Answered { line, bytes, command };
        let (request, before) = match command {
            Ok(command) => command,
            Err(problem) => return self.sent.push_back(ready(answered(Err(problem))).boxed()),
        };
        let may_have_effect = match before {
            // What has its effect, or may have it and has no key, is not sent again.
            Some(before) if before.is_ok() || request.key.is_none() => {
                return self.sent.push_back(ready(answered(Ok((request, before)))).boxed());
            }
            before => before.is_some(),
        };
        let answer = (self.submit)(request.clone());
        let mut answer = answer.map(move |answer| match answer {
            // It had none this time.
            Err(refusal) if may_have_effect && refusal.is_without_effect() => Err(Refusal::OutcomeUnknown),
            answer => answer,
        });
        // The first poll puts it into the queue, before any later line.
        if let Some(answer) = (&mut answer).now_or_never() {
            self.is_stalled |= is_passing(&request, &answer);
            return self.sent.push_back(ready(answered(Ok((request, answer)))).boxed());
        }
        // From here on it goes on without anybody who reads results: those of a slow reader take no room.
        let answer = tokio::spawn(async move {
            let answer = answer.await;
            drop(room);
            answer
        });
        let answer = answer.map(|answer| answer.unwrap_or(Err(Refusal::OutcomeUnknown)));
        self.sent.push_back(answer.map(move |answer| answered(Ok((request, answer)))).boxed());
    }

    /// The line, if its answer stands: no line before it, nor itself, must be sent again.
    fn settle(&mut self, answered: Answered) -> Option<Answered> {
        let is_passing = answered.command.as_ref().is_ok_and(|(request, answer)| is_passing(request, answer));
        if self.held.is_empty() && (self.is_closed || !is_passing) {
            self.retry = Retry::default();
            self.bytes -= answered.bytes;
            return Some(answered);
        }
        if self.held.is_empty() {
            self.retry.again();
        }
        self.is_stalled = true;
        self.held.push(answered);
        None
    }

    /// What is held goes first when sending goes on.
    fn take_back(&mut self) {
        self.is_stalled = false;
        let entry = |Answered { line, bytes, command }| Entry {
            line,
            bytes,
            command: command.map(|(request, answer)| {
                let is_to_be_kept = matches!(answer, Ok(_) | Err(Refusal::OutcomeUnknown));
                (request, is_to_be_kept.then_some(answer))
            }),
        };
        let held = std::mem::take(&mut self.held).into_iter().map(entry);
        self.waiting = held.chain(std::mem::take(&mut self.waiting)).collect();
    }

    /// Everything that is left, with the answers that there are.
    fn give_back(&mut self) -> Vec<Answered> {
        self.bytes = 0;
        let mut left = std::mem::take(&mut self.held);
        left.extend(self.waiting.drain(..).map(|Entry { line, bytes, command }| {
            let answer = |before: Option<Answer>| before.unwrap_or(Err(Refusal::NoWriter));
            Answered { line, bytes, command: command.map(|(request, before)| (request, answer(before))) }
        }));
        left
    }
}

/// The command may still have its effect, and only one, if it is sent again.
fn is_passing(request: &Request, answer: &Answer) -> bool {
    match answer {
        Err(Refusal::OutcomeUnknown) => request.key.is_some(),
        Err(refusal) => refusal.is_without_effect(),
        Ok(_) => false,
    }
}

/// When a line is sent again.
struct Retry {
    since: Option<Instant>,
    at: Instant,
    delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { since: None, at: Instant::now(), delay: RETRY_DELAY_MIN }
    }
}

impl Retry {
    fn again(&mut self) {
        let now = Instant::now();
        self.since.get_or_insert(now);
        self.at = now + self.delay;
        self.delay = (self.delay * 2).min(RETRY_DELAY_MAX);
    }

    fn is_too_late(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > PATIENCE)
    }
}

#[cfg(test)]
mod tests;
