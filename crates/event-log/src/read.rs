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

/// At most this many frames, and about this many bytes, come with one request: a reader holds a batch that it
/// gives, and the next, which is on its way meanwhile. More bytes are no faster to read, and slower to hold.
const BATCH_FRAMES_MAX: u32 = 256;
const BATCH_BYTES_MAX: u32 = 1024 * 1024;
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
    batch: Batch,
    connection: Connection,
    /// When the last message of it came, or it was asked.
    heard: Instant,
}

/// What has come of a batch.
#[derive(Default)]
struct Batch {
    /// Its first message, if only one was asked for: it is not parsed.
    message: Option<(Place, Bytes)>,
    /// Its frames, up to the first that cannot be read.
    frames: Vec<Frame>,
    unreadable: Option<FrameError>,
}

impl Batch {
    /// Read as they come, while the next are on their way.
    fn push(&mut self, place: Place, payload: &[u8]) {
        if self.unreadable.is_none() {
            match Frame::read(place, payload) {
                Ok(frame) => self.frames.push(frame),
                Err(error) => self.unreadable = Some(error),
            }
        }
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

    /// The frames from stream sequence `sequence` on: as many as one batch holds, none if there are none.
    /// Any server that keeps the stream may answer, so the newest frames may be missing. If there are more,
    /// the next batch is on its way while the caller works on this one.
    pub async fn frames(&mut self, sequence: u64) -> Result<Vec<Frame>, LogError> {
        let (batch, left) = self.batch(Request::frames(sequence)).await?;
        match batch {
            // What is readable goes first; the next request meets the error.
            Batch { frames, unreadable: Some(error), .. } if frames.is_empty() => Err(error.into()),
            Batch { frames, unreadable: Some(_), .. } => Ok(frames),
            Batch { frames, .. } => {
                if let Some(last) = frames.last().filter(|_| left > 0) {
                    self.ask(Request::frames(last.sequence + 1)).await?;
                }
                Ok(frames)
            }
        }
    }

    /// The frame at a stream sequence, if there is one; not parsed.
    pub async fn message(&mut self, sequence: u64) -> Result<Option<(Place, Bytes)>, LogError> {
        let (batch, _) = self.batch(Request::one(sequence)).await?;
        if let Some(error) = batch.unreadable {
            return Err(error.into());
        }
        Ok(batch.message.filter(|(place, _)| place.sequence == sequence))
    }

    async fn ask(&mut self, request: Request) -> Result<(), LogError> {
        self.number += 1;
        let client = &self.log.client;
        let connection = self.log.connections.of_next_request();
        let subject = format!("$JS.API.DIRECT.GET.{}", self.log.stream);
        let reply = format!("{}.{}", self.inbox, self.number);
        let payload = serde_json::to_vec(&request).map_err(LogError::unavailable)?;
        client.publish_with_reply(subject, reply, payload.into()).await.map_err(LogError::unavailable)?;
        self.asked = Some(Asked { request, batch: Batch::default(), connection, heard: Instant::now() });
        Ok(())
    }

    /// One batch, and how many frames come after it.
    async fn batch(&mut self, request: Request) -> Result<(Batch, u64), LogError> {
        if self.asked.as_ref().is_none_or(|asked| asked.request != request) {
            self.ask(request).await?;
        }
        loop {
            let answer = self.answer().await;
            let Some(asked) = &mut self.asked else {
                return Err(LogError::unavailable("nothing was asked"));
            };
            match answer {
                Ok(Some(Answer::Frame(place, payload))) => {
                    if request.batch == 1 {
                        asked.batch.message = Some((place, payload));
                    } else {
                        asked.batch.push(place, &payload);
                    }
                    asked.heard = Instant::now();
                }
                Ok(Some(Answer::Unreadable(error))) => {
                    asked.batch.unreadable.get_or_insert(error);
                    asked.heard = Instant::now();
                }
                Ok(Some(Answer::End { left })) => {
                    let batch = std::mem::take(&mut asked.batch);
                    self.asked = None;
                    return Ok((batch, left));
                }
                // Its rest went down with the connection.
                Ok(None) if asked.connection.was_replaced() => self.ask(request).await?,
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
