//! Appending a frame behind the fence, and the rule for an outcome that is unknown: look, never guess.

use std::{error::Error as _, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
};
use tokio::time::Instant;

use crate::{
    frame::NewFrame,
    log::{EventLog, Head, LogError, REQUEST_TIMEOUT},
};

/// How long an append may take, looking and repeating included.
const APPEND_TIME_MAX: Duration = Duration::from_secs(5);
/// The pause between two attempts, while the log cannot be reached.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Why a frame was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another writer has appended since. The frame is not in the log and never will be.
    #[error("another writer has appended to the log")]
    Conflict,
    /// The server refused, for instance because its disk is full. Not in the log.
    #[error("the log refused the frame: {0}")]
    Refused(String),
    /// The frame may be in the log, or may come into it until another frame is appended.
    #[error("the log could not be reached to learn whether the frame was appended: {0}")]
    Unknown(String),
}

impl AppendError {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What one attempt showed.
enum Attempt {
    Stored(u64),
    Refused(String),
    Unknown(String),
}

impl EventLog {
    /// Appends `frame` after `head`, and only there. Returns once the frame is as durable as the server
    /// makes it. Repeating the same frame behind the same fence cannot store it twice.
    pub async fn append(&self, frame: &NewFrame, head: Head) -> Result<Head, AppendError> {
        let deadline = Instant::now() + APPEND_TIME_MAX;
        let stored = |sequence| Head {
            sequence,
            frame_id: Some(frame.id),
            position: (frame.first + frame.count).saturating_sub(1),
            term: frame.term,
        };
        let mut may_arrive = false;
        loop {
            let reason = match self.attempt(frame, head).await {
                Attempt::Stored(sequence) => return Ok(stored(sequence)),
                Attempt::Refused(reason) => {
                    // An earlier attempt may have been taken before this one was refused.
                    return match self.place_at(head.sequence + 1).await {
                        Ok(Some(place)) if place.id == frame.id => Ok(stored(place.sequence)),
                        // Sent over another connection, or to another leader, it may even be taken after it.
                        Ok(None) if may_arrive => Err(AppendError::Unknown(reason)),
                        Ok(_) => Err(AppendError::Refused(reason)),
                        Err(error) => Err(AppendError::Unknown(error.to_string())),
                    };
                }
                Attempt::Unknown(reason) => {
                    may_arrive = true;
                    reason
                }
            };
            tracing::debug!(frame = %frame.id, reason, "looking whether the frame was appended");
            loop {
                // The fence lets only one frame take the place after `head`: look who has it.
                let error = match self.place_at(head.sequence + 1).await {
                    Ok(Some(place)) if place.id == frame.id => return Ok(stored(place.sequence)),
                    Ok(Some(_)) => return Err(AppendError::Conflict),
                    Ok(None) => break,
                    Err(LogError::Unavailable(error)) => error,
                    Err(LogError::Frame(_)) => return Err(AppendError::Conflict),
                    Err(error) => error.to_string(),
                };
                if Instant::now() >= deadline {
                    return Err(AppendError::Unknown(error));
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
            if Instant::now() >= deadline {
                return Err(AppendError::Unknown(reason));
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn attempt(&self, frame: &NewFrame, head: Head) -> Attempt {
        let message = PublishMessage::build()
            .headers(frame.headers())
            .payload(frame.payload.clone())
            .expected_last_subject_sequence(head.sequence);
        let connection = self.connections.of_next_request();
        let publish = async { self.jetstream.send_publish(self.subject.clone(), message).await?.await };
        tokio::select! {
            biased;
            answer = tokio::time::timeout(REQUEST_TIMEOUT, publish) => match answer {
                Ok(Ok(ack)) => Attempt::Stored(ack.sequence),
                Ok(Err(error)) => classify(&error),
                Err(_) => Attempt::Unknown("no answer in time".into()),
            },
            () = connection.replaced() => Attempt::Unknown("the connection was lost".into()),
        }
    }
}

/// Only an answer of the server that speaks of this message is definite. A wrong sequence is not: it may
/// be an earlier attempt of ours that took the place.
fn classify(error: &PublishError) -> Attempt {
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        return Attempt::Refused(error.to_string());
    }
    let answer = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match answer.map(jetstream::Error::error_code) {
        Some(
            ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
        ) => Attempt::Refused(error.to_string()),
        _ => Attempt::Unknown(error.to_string()),
    }
}
