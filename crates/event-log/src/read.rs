//! Reading many frames with one request: JetStream's batched direct get (ADR-31). It needs no consumer on
//! the server, so there is nothing to create, lose or clean up; the reader alone knows where it is.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
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

/// A batch that is on its way.
struct Asked {
    request: Request,
    /// The sequence that the next piece begins with.
    from: u64,
    /// The next piece, as far as it has come.
    piece: Vec<Frame>,
    piece_bytes: usize,
    connection: Connection,
    /// When the last message came, or it was asked.
    heard: Instant,
}

impl Asked {
    /// The sequence after all that has come.
    fn next(&self) -> u64 {
        self.piece.last().map_or(self.from, |frame| frame.sequence + 1)
    }

    /// The piece, which may be given away now.
    fn take_piece(&mut self) -> Vec<Frame> {
        self.from = self.next();
        self.piece_bytes = 0;
        std::mem::take(&mut self.piece)
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
        let mut asked = match self.asked.take().filter(is_next) {
            Some(asked) => asked,
            None => self.ask(Request::frames(sequence)).await?,
        };
        loop {
            // It stays with the reader while it waits.
            self.asked = Some(asked);
            let answer = self.answered().await?;
            let Some(ongoing) = self.asked.take() else {
                return Err(LogError::unavailable("nothing was asked"));
            };
            asked = ongoing;
            let read = match answer {
                Answer::Frame(place, payload) => {
                    asked.piece_bytes += payload.len();
                    Frame::read(place, &payload)
                }
                Answer::Unreadable(error) => Err(error),
                Answer::End { left } => {
                    let next = asked.next();
                    let piece = asked.take_piece();
                    // A batch without any frame, and yet some after it, would never end.
                    if left > 0 && next > asked.request.seq {
                        asked = self.ask(Request::frames(next)).await?;
                        if piece.is_empty() {
                            continue;
                        }
                        self.asked = Some(asked);
                    }
                    return Ok(piece);
                }
            };
            match read {
                Ok(frame) => asked.piece.push(frame),
                Err(error) if asked.piece.is_empty() => return Err(error.into()),
                // What is readable goes first; the next request meets the error.
                Err(_) => return Ok(asked.take_piece()),
            }
            if asked.piece_bytes >= PIECE_BYTES {
                let piece = asked.take_piece();
                self.asked = Some(asked);
                return Ok(piece);
            }
        }
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
        let from = request.seq;
        Ok(Asked { request, from, piece: Vec::new(), piece_bytes: 0, connection, heard: Instant::now() })
    }

    /// What comes next of the batch that was asked. What is lost with a connection is asked for again.
    async fn answered(&mut self) -> Result<Answer, LogError> {
        loop {
            let answer = self.answer().await;
            let Some(asked) = &mut self.asked else {
                return Err(LogError::unavailable("nothing was asked"));
            };
            match answer {
                Ok(Some(answer)) => {
                    asked.heard = Instant::now();
                    return Ok(answer);
                }
                // Its rest went down with the connection.
                Ok(None) if asked.connection.was_replaced() => {
                    let (request, from) = (Request { seq: asked.next(), ..asked.request }, asked.from);
                    let (piece, piece_bytes) = (std::mem::take(&mut asked.piece), asked.piece_bytes);
                    let again = self.ask(request).await?;
                    self.asked = Some(Asked { from, piece, piece_bytes, ..again });
                }
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
        let number = self.number.to_string();
        loop {
            let message = match tokio::time::timeout(LOOK_EVERY, self.answers.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(LogError::unavailable("the connection is closed")),
                Err(_) => return Ok(None),
            };
            if message.subject.rsplit('.').next() == Some(&number) {
                return read(message).map(Some);
            }
        }
    }
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
