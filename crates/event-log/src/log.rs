//! The handle to a log, and the two ways to name a place in it.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{
        self, ErrorCode,
        stream::{LastRawMessageErrorKind, RawMessageErrorKind},
    },
};
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    connection::Connections,
    follow::Follower,
    frame::{FrameError, Place},
    stream,
};

/// One request to JetStream takes at most this long; what waits longer asks again.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A log in JetStream. Cheap to clone.
#[derive(Clone)]
pub struct EventLog {
    pub(crate) client: Client,
    pub(crate) connections: Connections,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) namespace: String,
    pub(crate) subject: String,
    pub(crate) stream: String,
    replicas: usize,
}

/// The end of the log: what an append builds on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The stream sequence of the last frame; 0 in an empty log.
    pub sequence: u64,
    /// The id of that frame.
    pub frame_id: Option<Uuid>,
    /// The position of the last event; 0 if there is none.
    pub position: u64,
    /// The term of the writer of the last frame; 0 in an empty log.
    pub term: u64,
}

/// Up to where a reader has read: enough to notice that the log is no longer the one it read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position of the last event read.
    pub position: u64,
    /// The stream sequence of the last frame read; 0 at the start.
    pub frame_sequence: u64,
    /// The id of that frame.
    pub frame_id: Option<Uuid>,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Passing: the server, or the stream's leader, does not answer.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// Lasting, until somebody changes the stream.
    #[error("the stream {stream} is not fit to be a log; it needs {missing}")]
    Unsuitable { stream: String, missing: String },
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<Head> for Checkpoint {
    /// The checkpoint of who has read everything up to `head`.
    fn from(head: Head) -> Self {
        Self { position: head.position, frame_sequence: head.sequence, frame_id: head.frame_id }
    }
}

impl LogError {
    pub(crate) fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl EventLog {
    /// The log of `namespace`. Asks the server nothing yet.
    pub fn new(client: Client, namespace: &str) -> Self {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let config = stream::definition(namespace);
        Self {
            connections: Connections::of(client.clone()),
            client,
            jetstream,
            namespace: namespace.to_owned(),
            subject: config.subjects[0].clone(),
            stream: config.name,
            replicas: config.num_replicas,
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same log, created with copies on so many servers if it has yet to be created.
    pub fn with_replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// How many servers keep a copy of it now, whatever it was created with.
    pub async fn copies(&self) -> Result<usize, LogError> {
        Ok(self.info().await?.config.num_replicas)
    }

    /// The same log, read from another stream that has its frames at the same sequences: a mirror, or a copy
    /// that was restored beside it. Not to append to.
    pub fn read_from(self, stream: &str) -> Self {
        Self { stream: stream.to_owned(), ..self }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The largest payload of one frame in bytes: half of what the server takes in one message.
    pub fn frame_bytes_max(&self) -> usize {
        self.client.server_info().max_payload / 2
    }

    /// Creates the stream if there is none, and refuses one that could lose history.
    pub async fn ensure(&self) -> Result<(), LogError> {
        stream::ensure(&self.jetstream, &self.namespace, self.replicas).await
    }

    /// The end of the log, asked of the stream's leader: it contains every acknowledged append.
    pub async fn head(&self) -> Result<Head, LogError> {
        let leader = self.leader().await?;
        match self.answered(leader.get_last_raw_message_by_subject(&self.subject)).await? {
            Ok(message) => {
                let place = Place::read(message.sequence, &message.headers)?;
                let Place { sequence, id, term, .. } = place;
                Ok(Head { sequence, frame_id: Some(id), position: place.last(), term })
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(Head::default()),
                _ => Err(LogError::unavailable(error)),
            },
        }
    }

    /// The stream sequence of the last frame, asked of the stream's leader; 0 in an empty log.
    pub async fn last_sequence(&self) -> Result<u64, LogError> {
        Ok(self.info().await?.state.last_sequence)
    }

    /// The same, for certain: there was no later frame when this was asked. None if the log is kept on several
    /// servers, where one that was the leader and has yet to learn that it no longer is answers from what it knew
    /// (seen of one that was paused); there only an append can tell.
    pub async fn certain_last_sequence(&self) -> Result<Option<u64>, LogError> {
        let info = self.info().await?;
        Ok((info.config.num_replicas <= 1).then_some(info.state.last_sequence))
    }

    async fn info(&self) -> Result<jetstream::stream::Info, LogError> {
        let stream = self.answered(self.jetstream.get_stream(&self.stream)).await?;
        Ok(stream.map_err(LogError::unavailable)?.cached_info().clone())
    }

    /// Where the frame at a stream sequence is, asked of the stream's leader.
    pub(crate) async fn place_at(&self, sequence: u64) -> Result<Option<Place>, LogError> {
        Ok(self.message_at(sequence).await?.map(|(place, _)| place))
    }

    /// The frame at a stream sequence, asked of the stream's leader.
    pub(crate) async fn message_at(&self, sequence: u64) -> Result<Option<(Place, Bytes)>, LogError> {
        let leader = self.leader().await?;
        match self.answered(leader.get_raw_message(sequence)).await? {
            Ok(message) => {
                let place = Place::read(message.sequence, &message.headers)?;
                Ok(Some((place, message.payload)))
            }
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::SEQUENCE_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(LogError::unavailable(error)),
            },
        }
    }

    /// Reads on after `checkpoint`, for ever.
    pub fn follow(&self, checkpoint: Checkpoint) -> Follower {
        Follower::new(self.clone(), checkpoint)
    }

    /// Waits for an answer only while it can still come.
    pub(crate) async fn answered<A>(&self, request: impl Future<Output = A>) -> Result<A, LogError> {
        let connection = self.connections.of_next_request();
        tokio::select! {
            biased;
            answer = request => Ok(answer),
            () = connection.replaced() => Err(LogError::unavailable("the connection was lost")),
        }
    }

    async fn leader(&self) -> Result<jetstream::stream::Stream<()>, LogError> {
        self.jetstream.get_stream_no_info(&self.stream).await.map_err(LogError::unavailable)
    }
}
