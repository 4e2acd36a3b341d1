//! The service to compare with: the plain way to write to JetStream, one message for each event and for each value
//! that must be unique, each on a subject of its own that must be empty. With the same durability as ours, but not
//! atomic: a crash, or a taken username, leaves the other messages of a registration behind.

use std::net::SocketAddr;

use anyhow::Result;
use async_nats::jetstream::{self, context::PublishErrorKind, message::PublishMessage};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Args;
use futures::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use uuid::Uuid;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on
    #[arg(long, env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

    /// URL of the NATS server; several separated by commas
    #[arg(long, env = "NATS_URL")]
    nats_url: String,
}

pub async fn serve(options: Options) -> Result<()> {
    let jetstream = jetstream::new(service_kit::nats::connect_now(&options.nats_url, "bench").await?);
    let routes = Router::new()
        .route("/accounts/{id}/register", post(register))
        .route("/orders/{id}/place", post(place))
        .route("/health/ready", get(|| async { "ready\n" }))
        .with_state(jetstream);
    axum::serve(TcpListener::bind(options.listen).await?, routes).await?;
    Ok(())
}

#[derive(Deserialize, Serialize)]
struct Register {
    email: String,
    username: String,
}

async fn register(
    State(jetstream): State<jetstream::Context>,
    Path(id): Path<Uuid>,
    Json(fields): Json<Register>,
) -> Response {
    let messages = [
        (format!("naive.account.{id}"), event("account.registered", id, &fields)),
        (format!("naive.email.{}", fields.email), id.to_string().into_bytes()),
        (format!("naive.username.{}", fields.username), id.to_string().into_bytes()),
    ];
    answer("accounts", id, "account.registered", publish(&jetstream, messages).await)
}

#[derive(Deserialize, Serialize)]
struct Place {
    account_id: Uuid,
    quantity: u32,
    amount_cents: i64,
    currency: String,
}

async fn place(
    State(jetstream): State<jetstream::Context>,
    Path(id): Path<Uuid>,
    Json(fields): Json<Place>,
) -> Response {
    let messages = [(format!("naive.order.{id}"), event("order.placed", id, &fields))];
    answer("orders", id, "order.placed", publish(&jetstream, messages).await)
}

/// A CloudEvent, as large as ours.
fn event(event_type: &str, id: Uuid, data: &impl Serialize) -> Vec<u8> {
    let event = serde_json::json!({
        "specversion": "1.0",
        "id": Uuid::now_v7(),
        "source": "/naive",
        "type": event_type,
        "subject": id,
        "time": jiff::Timestamp::now(),
        "datacontenttype": "application/json",
        "dataschema": format!("urn:headwater:{event_type}:1"),
        "data": data,
    });
    event.to_string().into_bytes()
}

/// Publishes all messages at once, each to a subject that must be empty, and waits until all are durable. Returns
/// the sequence of the first.
async fn publish<const N: usize>(
    jetstream: &jetstream::Context,
    messages: [(String, Vec<u8>); N],
) -> Result<u64, PublishErrorKind> {
    let sent = messages.map(|(subject, payload)| {
        let message = PublishMessage::build().payload(payload.into()).expected_last_subject_sequence(0);
        jetstream.send_publish(subject, message)
    });
    let sent = try_join_all(sent).await.map_err(|error| error.kind())?;
    let stored = join_all(sent.into_iter().map(IntoFuture::into_future)).await;
    let mut first = None;
    for stored in stored {
        let sequence = stored.map_err(|error| error.kind())?.sequence;
        first.get_or_insert(sequence);
    }
    Ok(first.unwrap_or_default())
}

#[derive(Serialize)]
struct Accepted {
    id: Uuid,
    revision: u64,
    position: u64,
    events: [&'static str; 1],
}

/// With the body and the headers of our answers.
fn answer(
    plural: &str,
    id: Uuid,
    event_type: &'static str,
    stored: Result<u64, PublishErrorKind>,
) -> Response {
    let position = match stored {
        Ok(position) => position,
        Err(PublishErrorKind::WrongLastSequence) => return StatusCode::CONFLICT.into_response(),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let mut headers = HeaderMap::new();
    headers.insert("log-position", HeaderValue::from(position));
    let texts = [(header::ETAG, format!("\"{position}\"")), (header::LOCATION, format!("/{plural}/{id}"))];
    for (name, text) in texts {
        headers.insert(name, text.try_into().expect("numbers, ids and our own names are visible ASCII"));
    }
    let body = Accepted { id, revision: position, position, events: [event_type] };
    (StatusCode::CREATED, headers, Json(body)).into_response()
}
