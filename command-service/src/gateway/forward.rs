//! Commands between instances, over NATS request/reply on `<namespace>.commands.<instance>`.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Message, RequestErrorKind};
use domain::{Kind, Rejection, RejectionClass};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use service_kit::{
    lease::Instance,
    trace::{self, Span, SpanKind},
};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::{Gateway, Inner, Route};
use crate::{
    permit::Permit,
    submission::{Answer, IdempotencyKey, Meta, Outcome, Refusal, Request},
};

/// The writer answers within this time, which is longer than an append may take.
const REPLY_TIME_MAX: Duration = Duration::from_secs(6);
/// Codes and titles of rejections that are remembered; an application has a few dozen.
const CONSTANTS_MAX: usize = 10_000;

/// A command on its way to another instance, which parses it again.
#[derive(Serialize, Deserialize)]
struct Forwarded {
    aggregate: String,
    id: Uuid,
    command: String,
    data: Box<RawValue>,
    key: Option<IdempotencyKey>,
    if_match: Option<u64>,
    permit: Permit,
    meta: Meta,
}

/// [`Answer`] on its way back.
#[derive(Serialize, Deserialize)]
enum Reply {
    Accepted(Outcome),
    Missing { code: String, title: String },
    Taken { code: String, title: String },
    Rule { code: String, title: String },
    NotTheirs,
    RevisionMismatch { actual: u64 },
    KeyReused,
    TooLarge,
    Overloaded,
    NoWriter,
    LogUnavailable(String),
    OutcomeUnknown,
}

impl Inner {
    pub(super) async fn decide_there(
        &self,
        writer: Instance,
        request: &Request,
        route: &mut watch::Receiver<Route>,
    ) -> Answer {
        let payload = serde_json::to_vec(&Forwarded::from(request)).expect("a command has string keys");
        let message = async_nats::Request::new().payload(payload.into()).timeout(Some(REPLY_TIME_MAX));
        let span = span();
        let replied = tokio::select! {
            replied = trace::within(
                span.as_ref(),
                self.client.send_request(subject(&self.namespace, writer), message),
            ) => replied,
            // Whoever writes next has opened a term before it answers: until then nothing of this one's comes.
            _ = route.wait_for(|route| *route != Route::There(writer)) => return Err(Refusal::OutcomeUnknown),
        };
        match replied {
            Ok(message) => match serde_json::from_slice::<Reply>(&message.payload) {
                Ok(reply) => reply.into(),
                Err(_) => Err(Refusal::OutcomeUnknown),
            },
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(Refusal::NoWriter),
            Err(_) => Err(Refusal::OutcomeUnknown),
        }
    }
}

/// For a command that is decided elsewhere. What is done there belongs to the request, as if it were done here.
fn span() -> Option<Span> {
    let span = Span::within_current(SpanKind::Client, "request commands")?;
    span.messaging("request", "send", "{namespace}.commands.{instance}");
    Some(span)
}

/// Answers what other instances forward to this one, for as long as there is a connection.
pub async fn serve(gateway: Gateway, me: Instance) -> Result<(), async_nats::SubscribeError> {
    let subject = subject(&gateway.0.namespace, me);
    let mut messages = gateway.0.client.subscribe(subject).await?;
    while let Some(Message { payload, reply, .. }) = messages.next().await {
        let Some(sender) = reply else { continue };
        // Queued here, one after the other, because an import relies on the order.
        let queued = gateway.0.take_over(&payload);
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let answer = match queued {
                Ok(answer) => answer.await.unwrap_or(Err(Refusal::OutcomeUnknown)),
                Err(refusal) => Err(refusal),
            };
            let reply =
                serde_json::to_vec(&Reply::from(answer)).expect("a reply is made of text and numbers");
            // A sender that does not hear from us sends the command again.
            let _ = gateway.0.client.publish(sender, reply.into()).await;
        });
    }
    Ok(())
}

impl Inner {
    /// Queues a command that another instance took, if this one writes.
    fn take_over(&self, payload: &[u8]) -> Result<oneshot::Receiver<Answer>, Refusal> {
        match (parse(payload), &*self.route.borrow()) {
            (Some(request), Route::Here) => self.queue(request.into()),
            // A command that only another version of the application knows is none that this one can decide.
            _ => Err(Refusal::NoWriter),
        }
    }
}

fn subject(namespace: &str, writer: Instance) -> String {
    format!("{namespace}.commands.{writer}")
}

impl From<&Request> for Forwarded {
    fn from(request: &Request) -> Self {
        let (command, data) = request.command.encode();
        Self {
            aggregate: request.command.kind().plural().to_owned(),
            id: request.id,
            command,
            data,
            key: request.key.clone(),
            if_match: request.if_match,
            permit: request.permit.clone(),
            meta: request.meta.clone(),
        }
    }
}

fn parse(payload: &[u8]) -> Option<Request> {
    let Forwarded { aggregate, id, command, data, key, if_match, permit, meta } =
        serde_json::from_slice(payload).ok()?;
    let command = Kind::from_plural(&aggregate)?.command(&command, data.get()).ok()?;
    Some(Request { id, command, key, if_match, permit, meta })
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(outcome) => Self::Accepted(outcome),
            Err(Refusal::Rejected(Rejection { class, code, title })) => {
                let (code, title) = (code.to_owned(), title.to_owned());
                match class {
                    RejectionClass::Missing => Self::Missing { code, title },
                    RejectionClass::Taken => Self::Taken { code, title },
                    RejectionClass::Rule => Self::Rule { code, title },
                }
            }
            Err(Refusal::NotTheirs) => Self::NotTheirs,
            Err(Refusal::RevisionMismatch { actual }) => Self::RevisionMismatch { actual },
            Err(Refusal::KeyReused) => Self::KeyReused,
            Err(Refusal::TooLarge) => Self::TooLarge,
            Err(Refusal::Overloaded) => Self::Overloaded,
            Err(Refusal::NoWriter) => Self::NoWriter,
            Err(Refusal::LogUnavailable(reason)) => Self::LogUnavailable(reason),
            Err(Refusal::OutcomeUnknown) => Self::OutcomeUnknown,
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Err(match reply {
            Reply::Accepted(outcome) => return Ok(outcome),
            Reply::Missing { code, title } => Rejection::missing(constant(code), constant(title)).into(),
            Reply::Taken { code, title } => Rejection::taken(constant(code), constant(title)).into(),
            Reply::Rule { code, title } => Rejection::rule(constant(code), constant(title)).into(),
            Reply::NotTheirs => Refusal::NotTheirs,
            Reply::RevisionMismatch { actual } => Refusal::RevisionMismatch { actual },
            Reply::KeyReused => Refusal::KeyReused,
            Reply::TooLarge => Refusal::TooLarge,
            Reply::Overloaded => Refusal::Overloaded,
            Reply::NoWriter => Refusal::NoWriter,
            Reply::LogUnavailable(reason) => Refusal::LogUnavailable(reason),
            Reply::OutcomeUnknown => Refusal::OutcomeUnknown,
        })
    }
}

/// Codes and titles are constants of the application; here they come from another instance, perhaps of a
/// newer version. There are few, so each is kept for ever, once.
fn constant(text: String) -> &'static str {
    static CONSTANTS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut constants = CONSTANTS.lock().unwrap_or_else(PoisonError::into_inner);
    let constants = constants.get_or_insert_default();
    if let Some(known) = constants.get(text.as_str()) {
        return known;
    }
    if constants.len() >= CONSTANTS_MAX {
        return "unknown";
    }
    let text: &'static str = Box::leak(text.into_boxed_str());
    constants.insert(text);
    text
}
