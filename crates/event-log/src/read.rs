//! Reading many frames with one request: JetStream's batched direct get (ADR-31). It needs no consumer on
//! the server, so there is nothing to create, lose or clean up; the reader alone knows where it is.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subscriber};
use futures::StreamExt;
use serde::Serialize;

use crate::{
    frame::{Frame, FrameError, Place},
    log::{EventLog, LogError},
};

/// At most this many frames, and about this many bytes, come with one request.
const BATCH_FRAMES_MAX: u32 = 256;
const BATCH_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Between two messages of one batch no more than this may pass.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Request {
    seq: u64,
    batch: u32,
    max_bytes: u32,
}

/// A reader's own inbox, so that a request costs no subscription.
pub(crate) struct Reader {
    log: EventLog,
    inbox: String,
    answers: Subscriber,
    /// Tells the answers to this request from late ones to an earlier request.
    request: u64,
}

impl Reader {
    pub async fn new(log: EventLog) -> Result<Self, LogError> {
        let inbox = log.client.new_inbox();
        let answers = log.client.subscribe(format!("{inbox}.*")).await.map_err(LogError::unavailable)?;
        Ok(Self { log, inbox, answers, request: 0 })
    }

    /// The frames from stream sequence `sequence` on: as many as one batch holds, none if there are none.
    /// Any server that keeps the stream may answer, so the newest frames may be missing.
    pub async fn frames(&mut self, sequence: u64) -> Result<Vec<Frame>, LogError> {
        self.request(&Request { seq: sequence, batch: BATCH_FRAMES_MAX, max_bytes: BATCH_BYTES_MAX }).await?;
        let mut frames = Vec::new();
        while let Some((place, payload)) = self.answer().await? {
            match Frame::read(place, &payload) {
                Ok(frame) => frames.push(frame),
                Err(error) if frames.is_empty() => return Err(error.into()),
                // What is readable goes first; the next request meets the error.
                Err(_) => break,
            }
        }
        Ok(frames)
    }

    /// The frame at a stream sequence, if there is one.
    pub async fn place(&mut self, sequence: u64) -> Result<Option<Place>, LogError> {
        self.request(&Request { seq: sequence, batch: 1, max_bytes: BATCH_BYTES_MAX }).await?;
        let mut found = None;
        while let Some((place, _)) = self.answer().await? {
            found = Some(place).filter(|place| place.sequence == sequence);
        }
        Ok(found)
    }

    async fn request(&mut self, request: &Request) -> Result<(), LogError> {
        self.request += 1;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.log.stream);
        let reply = format!("{}.{}", self.inbox, self.request);
        let payload = serde_json::to_vec(request).map_err(LogError::unavailable)?;
        let client = &self.log.client;
        client.publish_with_reply(subject, reply, payload.into()).await.map_err(LogError::unavailable)
    }

    /// The next message of the batch; none at its end.
    async fn answer(&mut self) -> Result<Option<(Place, bytes::Bytes)>, LogError> {
        let request = self.request.to_string();
        loop {
            let message = match tokio::time::timeout(MESSAGE_TIMEOUT, self.answers.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(LogError::unavailable("the connection is closed")),
                Err(_) => return Err(LogError::unavailable("no answer in time")),
            };
            if message.subject.rsplit('.').next() != Some(&request) {
                continue;
            }
            return match message.status.as_ref().map(StatusCode::as_u16) {
                None | Some(200) => {
                    let headers = message.headers.unwrap_or_default();
                    let place = Place::read(stream_sequence(&headers)?, &headers)?;
                    Ok(Some((place, message.payload)))
                }
                // The end of the batch; no message at or after the sequence.
                Some(204 | 404) => Ok(None),
                Some(503) => Err(LogError::unavailable("no server answers for the stream")),
                Some(status) => {
                    let text = message.description.unwrap_or_default();
                    Err(LogError::unavailable(format!("direct get failed: {status} {text}")))
                }
            };
        }
    }
}

fn stream_sequence(headers: &HeaderMap) -> Result<u64, FrameError> {
    headers
        .get(async_nats::header::NATS_SEQUENCE)
        .and_then(|value| value.as_str().parse().ok())
        .ok_or(FrameError { sequence: 0, problem: "a stored message came without its sequence".into() })
}
