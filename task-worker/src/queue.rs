//! The queue of tasks, in two JetStream streams: a work queue, in which each task is until it is done, and the dead
//! letters.
//!
//! A task is *ready* on a subject of its own, or *later* until its time has come. A worker that was given one says
//! what came of it: done; to be tried later; dead. The last two bring the task to its next place first and take it
//! from here then, so that no crash loses it, and whoever is given it a second time looks whether it is there already.

mod dead;
mod delivery;
mod later;
mod plan;
mod streams;
mod task;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    Client, HeaderMap, Subscriber,
    jetstream::{
        self,
        consumer::PullConsumer,
        message::{PublishMessage, StreamMessage},
        stream::LastRawMessageErrorKind,
    },
};
use bytes::Bytes;
use domain::policy::Definition;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use dead::DeadLetter;
pub use delivery::{ACK_WAIT, Delivery};
pub use plan::{PlanError, Progress, Stored, TASKS_MAX};
pub use task::{InvalidTaskId, QueuedTask, TaskId};

use task::Subjects;

/// One request takes at most this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Who leaves waits no longer than this for what it still has to say.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Passing: the server, or the stream's leader, does not answer.
    #[error("the queue of tasks is unavailable: {0}")]
    Unavailable(String),
    /// Lasting, until somebody changes the stream.
    #[error("the stream {stream} is not fit for tasks; it needs {missing}")]
    Unsuitable { stream: String, missing: String },
    #[error("{what} cannot be read: {error}")]
    Damaged { what: String, error: String },
}

impl QueueError {
    fn unavailable(error: impl fmt::Display) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The queue of one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    jetstream: jetstream::Context,
    namespace: String,
    subjects: Subjects,
    /// The names of the streams.
    tasks: String,
    dead_letters: String,
    consumers: Arc<Mutex<HashMap<String, PullConsumer>>>,
}

/// How much is in the queue of one policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    pub ready: u64,
    pub under_way: u64,
}

impl Queue {
    /// Asks the server nothing yet.
    pub fn new(client: Client, namespace: &str) -> Self {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        Self {
            client,
            jetstream,
            namespace: namespace.to_owned(),
            subjects: Subjects::of(namespace),
            tasks: streams::tasks(namespace).name,
            dead_letters: streams::dead_letters(namespace).name,
            consumers: Arc::default(),
        }
    }

    /// Makes the streams, if they are missing on the server, with so many copies.
    pub async fn ensure(&self, replicas: usize) -> Result<(), QueueError> {
        streams::ensure(&self.jetstream, streams::tasks(&self.namespace), replicas).await?;
        streams::ensure(&self.jetstream, streams::dead_letters(&self.namespace), replicas).await
    }

    /// Makes what is needed to take tasks of these policies.
    pub async fn ensure_consumers(&self, policies: &[&'static Definition]) -> Result<(), QueueError> {
        self.lock().clear();
        for policy in policies {
            self.ensure_consumer(policy.name).await?;
        }
        Ok(())
    }

    /// Says, for as long as it is heard, that tasks became ready. Only a hint: it may be lost.
    pub async fn hints(&self) -> Result<Subscriber, QueueError> {
        self.client.subscribe(self.subjects.hints()).await.map_err(QueueError::unavailable)
    }

    /// Returns when everything that was said so far is on its way to the server, or when that cannot be.
    pub async fn flush(&self) {
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.client.flush()).await;
    }

    /// Takes what a policy owes because of an aggregate out of the queue, and from among the dead letters.
    pub async fn cancel(&self, policy: &str, aggregate: Uuid) -> Result<(), QueueError> {
        for subject in self.subjects.of_aggregate(policy, aggregate) {
            self.purge(&self.tasks, subject).await?;
        }
        self.purge(&self.dead_letters, self.subjects.dead_of_aggregate(policy, aggregate)).await
    }

    /// All tasks that are not done, dead letters aside.
    pub async fn count(&self) -> Result<u64, QueueError> {
        let stream = self.answered(self.jetstream.get_stream(&self.tasks)).await?;
        let messages = stream.map_err(QueueError::unavailable)?.cached_info().state.messages;
        // One message tells how far the log was planned.
        Ok(messages.saturating_sub(1))
    }

    pub async fn depth(&self, policy: &str) -> Result<Depth, QueueError> {
        let mut consumer = self.consumer(policy).await?;
        let info = self.answered(consumer.info()).await?.map_err(QueueError::unavailable)?;
        Ok(Depth { ready: info.num_pending, under_way: info.num_ack_pending as u64 })
    }

    async fn consumer(&self, policy: &str) -> Result<PullConsumer, QueueError> {
        if let Some(consumer) = self.lock().get(policy) {
            return Ok(consumer.clone());
        }
        let consumer = self.answered(self.jetstream.get_consumer_from_stream(policy, &self.tasks)).await?;
        let consumer: PullConsumer = consumer.map_err(QueueError::unavailable)?;
        self.lock().insert(policy.to_owned(), consumer.clone());
        Ok(consumer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, PullConsumer>> {
        // Each use is one look-up or one insert.
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores one message. It is stored when this returns.
    async fn store(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<(), QueueError> {
        let message = PublishMessage::build().headers(headers).payload(payload);
        let stored = async { self.jetstream.send_publish(subject, message).await?.await };
        self.answered(stored).await?.map(drop).map_err(QueueError::unavailable)
    }

    async fn purge(&self, stream: &str, subject: String) -> Result<(), QueueError> {
        let stream = self.answered(self.jetstream.get_stream_no_info(stream)).await?;
        let stream = stream.map_err(QueueError::unavailable)?;
        let purge = async { stream.purge().filter(subject).await };
        self.answered(purge).await?.map(drop).map_err(QueueError::unavailable)
    }

    /// The last message on a subject, asked of the stream's leader.
    async fn last(&self, stream: &str, subject: String) -> Result<Option<StreamMessage>, QueueError> {
        let stream = self.answered(self.jetstream.get_stream_no_info(stream)).await?;
        let stream = stream.map_err(QueueError::unavailable)?;
        match self.answered(stream.get_last_raw_message_by_subject(&subject)).await? {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(QueueError::unavailable(error)),
        }
    }

    /// The first task on any of the subjects that match.
    async fn first<T: DeserializeOwned>(&self, subjects: String) -> Result<Option<T>, QueueError> {
        let stream = self.answered(self.jetstream.get_stream_no_info(&self.tasks)).await?;
        let stream = stream.map_err(QueueError::unavailable)?;
        match self.answered(stream.direct_get_first_for_subject(subjects)).await? {
            Ok(message) => Ok(serde_json::from_slice(&message.payload).ok()),
            Err(error) if error.kind() == jetstream::stream::DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(QueueError::unavailable(error)),
        }
    }

    async fn answered<A>(&self, request: impl Future<Output = A>) -> Result<A, QueueError> {
        tokio::time::timeout(REQUEST_TIMEOUT, request)
            .await
            .map_err(|_| QueueError::unavailable("no answer in time"))
    }
}
