//! Reading many frames with one request: JetStream's batched direct get (ADR-31). It needs no consumer on
//! the server, so there is nothing to create, lose or clean up; the reader alone knows where it is.

use std::{collections::VecDeque, time::Duration};

use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    connection::{Connection, LOOK_EVERY},
    frame::{Frame, FrameError, Place},
    log::{EventLog, LogError},
};

/// At most this many frames, and about this many bytes, come with one request: what nats-server keeps in one
/// block. It reads a block as a whole, and soon forgets it, so that a reader who takes its time over a block in
/// many requests has it read many times.
const BATCH_FRAMES_MAX: u32 = 4096;
const BATCH_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// The caller gets about this many bytes of them at once, parsed; the rest waits as it came. More are no faster to
/// read, and slower to hold.
const PIECE_BYTES: usize = 1024 * 1024;
/// The next batch is asked for when no more than this waits of the one before.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Between two messages of one batch no more than this may pass.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// On the message that ends a batch: how many messages the stream has after it.
const NUM_PENDING: &str = "Nats-Num-Pending";

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
struct Request {
    seq: u64,
    batch: u32,
    max_bytes: u32,
}

impl Request {
    fn frames(sequence: u64) -> Self {
        Self { seq: sequence, batch: BATCH_FRAMES_MAX, max_bytes: BATCH_BYTES_MAX }
    }

    fn one(sequence: u64) -> Self {
        Self { batch: 1, ..Self::frames(sequence) }
    }
}

/// A reader's own inbox, so that a request costs no subscription.
pub(crate) struct Reader {
    log: EventLog,
    inbox: String,
    answers: Subscriber,
    /// Tells the answers to this request from late ones to an earlier request.
    number: u64,
    /// What was asked and not taken yet. It stays when the one who waits for it gives up waiting.
    asked: Option<Asked>,
}

/// What was asked for, as far as it has come and was not given away.
struct Asked {
    /// The last request.
    request: Request,
    /// The sequence that the next piece begins with.
    from: u64,
    /// The next piece, and about how large its messages were.
    piece: Vec<Frame>,
    piece_bytes: usize,
    /// What came after it, not parsed yet.
    waiting: VecDeque<Result<(Place, Bytes), FrameError>>,
    waiting_bytes: usize,
    /// The sequence of the last frame that has come.
    last: u64,
    /// How many come after the last request's; none while that is on its way.
    left: Option<u64>,
    connection: Connection,
    /// When the last message came, or it was asked.
    heard: Instant,
}

impl Asked {
    /// The piece, which may be given away now.
    fn take_piece(&mut self) -> Vec<Frame> {
        self.from = self.piece.last().map_or(self.from, |frame| frame.sequence + 1);
        self.piece_bytes = 0;
        std::mem::take(&mut self.piece)
    }

    fn heard(&mut self, answer: Answer) {
        self.heard = Instant::now();
        match answer {
            Answer::Frame(place, payload) => {
                self.last = place.sequence;
                self.waiting_bytes += payload.len();
                self.waiting.push_back(Ok((place, payload)));
            }
            Answer::Unreadable(error) => self.waiting.push_back(Err(error)),
            Answer::End { left } => self.left = Some(left),
        }
    }

    /// The next batch may be asked for: there is one, this one did not come to nothing, and there is room.
    fn wants_more(&self) -> bool {
        let has_more = self.left.is_some_and(|left| left > 0) && self.last >= self.request.seq;
        has_more && self.waiting_bytes <= WAITING_BYTES_MAX
    }
}

/// What a message of a batch says.
enum Answer {
    Frame(Place, Bytes),
    /// Its headers do not say where it is.
    Unreadable(FrameError),
    /// The end of the batch, and how many messages come after it.
    End {
        left: u64,
    },
}

impl Reader {
    pub async fn new(log: EventLog) -> Result<Self, LogError> {
        let inbox = log.client.new_inbox();
        let answers = log.client.subscribe(format!("{inbox}.*")).await.map_err(LogError::unavailable)?;
        Ok(Self { log, inbox, answers, number: 0, asked: None })
    }

    /// The frames from stream sequence `sequence` on: about as many as are good to work on at once, none if there
    /// are none. Any server that keeps the stream may answer, so the newest frames may be missing. If there are
    /// more, they are on their way while the caller works on these.
    pub async fn frames(&mut self, sequence: u64) -> Result<Vec<Frame>, LogError> {
        let is_next = |asked: &Asked| asked.from == sequence && asked.request.batch > 1;
        if !self.asked.as_ref().is_some_and(is_next) {
            self.asked = Some(self.ask(Request::frames(sequence)).await?);
        }
        loop {
            self.take_what_is_there()?;
            if self.asked.as_ref().is_some_and(Asked::wants_more) {
                self.ask_on().await?;
            }
            let asked = self.asked.as_mut().ok_or_else(nothing_asked)?;
            match asked.waiting.pop_front() {
                Some(message) => {
                    let read = message.and_then(|(place, payload)| {
                        asked.waiting_bytes -= payload.len();
                        asked.piece_bytes += payload.len();
                        Frame::read(place, &payload)
                    });
                    match read {
                        Ok(frame) => asked.piece.push(frame),
                        // What is readable goes first; the next request meets the error.
                        Err(error) => {
                            let piece = asked.take_piece();
                            self.asked = None;
                            return if piece.is_empty() { Err(error.into()) } else { Ok(piece) };
                        }
                    }
                    if asked.piece_bytes >= PIECE_BYTES {
                        return Ok(asked.take_piece());
                    }
                }
                None if asked.left.is_some() => {
                    let piece = asked.take_piece();
                    self.asked = None;
                    return Ok(piece);
                }
                None => {
                    let answer = self.answered().await?;
                    self.asked.as_mut().ok_or_else(nothing_asked)?.heard(answer);
                }
            }
        }
    }

    /// Takes messages that have come already, so that the end of a batch is noticed while its frames still wait.
    fn take_what_is_there(&mut self) -> Result<(), LogError> {
        while let Some(Some(message)) = self.answers.next().now_or_never() {
            if !self.is_awaited(&message) {
                continue;
            }
            match read(message) {
                Ok(answer) => self.asked.as_mut().ok_or_else(nothing_asked)?.heard(answer),
                Err(error) => {
                    self.asked = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Asks for what comes after all that has come.
    async fn ask_on(&mut self) -> Result<(), LogError> {
        let Some(asked) = &self.asked else { return Ok(()) };
        let next = self.ask(Request { seq: asked.last + 1, ..asked.request }).await?;
        if let Some(asked) = &mut self.asked {
            (asked.request, asked.connection, asked.heard) = (next.request, next.connection, next.heard);
            asked.left = None;
        }
        Ok(())
    }

    /// The frame at a stream sequence, if there is one; not parsed.
    pub async fn message(&mut self, sequence: u64) -> Result<Option<(Place, Bytes)>, LogError> {
        self.asked = Some(self.ask(Request::one(sequence)).await?);
        let mut message = None;
        loop {
            match self.answered().await? {
                Answer::Frame(place, payload) => message = Some((place, payload)),
                Answer::Unreadable(error) => return Err(error.into()),
                Answer::End { .. } => {
                    self.asked = None;
                    return Ok(message.filter(|(place, _): &(Place, Bytes)| place.sequence == sequence));
                }
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Asked, LogError> {
        self.number += 1;
        let client = &self.log.client;
        let connection = self.log.connections.of_next_request();
        let subject = format!("$JS.API.DIRECT.GET.{}", self.log.stream);
        let reply = format!("{}.{}", self.inbox, self.number);
        let payload = serde_json::to_vec(&request).map_err(LogError::unavailable)?;
        client.publish_with_reply(subject, reply, payload.into()).await.map_err(LogError::unavailable)?;
        Ok(Asked {
            request,
            from: request.seq,
            piece: Vec::new(),
            piece_bytes: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            last: request.seq.saturating_sub(1),
            left: None,
            connection,
            heard: Instant::now(),
        })
    }

    /// What comes next of the batch that was asked. What is lost with a connection is asked for again.
    async fn answered(&mut self) -> Result<Answer, LogError> {
        loop {
            let answer = self.answer().await;
            let asked = self.asked.as_mut().ok_or_else(nothing_asked)?;
            match answer {
                Ok(Some(answer)) => {
                    asked.heard = Instant::now();
                    return Ok(answer);
                }
                // Its rest went down with the connection.
                Ok(None) if asked.connection.was_replaced() => self.ask_on().await?,
                Ok(None) if asked.heard.elapsed() < MESSAGE_TIMEOUT => {}
                Ok(None) => {
                    self.asked = None;
                    return Err(LogError::unavailable("no answer in time"));
                }
                Err(error) => {
                    self.asked = None;
                    return Err(error);
                }
            }
        }
    }

    /// What comes next of the batch; none if nothing came for a moment.
    async fn answer(&mut self) -> Result<Option<Answer>, LogError> {
        loop {
            let message = match tokio::time::timeout(LOOK_EVERY, self.answers.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(LogError::unavailable("the connection is closed")),
                Err(_) => return Ok(None),
            };
            if self.is_awaited(&message) {
                return read(message).map(Some);
            }
        }
    }

    /// Whether it answers the last request.
    fn is_awaited(&self, message: &Message) -> bool {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        number == Some(self.number)
    }
}

fn nothing_asked() -> LogError {
    LogError::unavailable("nothing was asked")
}

fn read(message: Message) -> Result<Answer, LogError> {
    let headers = message.headers.unwrap_or_default();
    match message.status.as_ref().map(StatusCode::as_u16) {
        None | Some(200) => {
            let sequence = number(&headers, async_nats::header::NATS_SEQUENCE.as_ref());
            let sequence = sequence.ok_or_else(|| FrameError {
                sequence: 0,
                problem: "a stored message came without its sequence".into(),
            })?;
            Ok(match Place::read(sequence, &headers) {
                Ok(place) => Answer::Frame(place, message.payload),
                Err(error) => Answer::Unreadable(error),
            })
        }
        Some(204) => Ok(Answer::End { left: number(&headers, NUM_PENDING).unwrap_or(0) }),
        // No message at or after the sequence.
        Some(404) => Ok(Answer::End { left: 0 }),
        Some(503) => Err(LogError::unavailable("no server answers for the stream")),
        Some(status) => {
            let text = message.description.unwrap_or_default();
            Err(LogError::unavailable(format!("direct get failed: {status} {text}")))
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
