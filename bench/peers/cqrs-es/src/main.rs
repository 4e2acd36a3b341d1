//! Accounts and orders on cqrs-es and postgres-es, behind axum: the same two commands as Headwater's.

mod account;
mod order;

use std::env;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{Aggregate, AggregateError};
use mimalloc::MiMalloc;
use postgres_es::{PostgresCqrs, PostgresEventRepository, postgres_cqrs};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use uuid::Uuid;

use account::{Account, Register};
use order::{Order, Place};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The library's own default is 10: with more, more commits share a write to the disk.
const CONNECTIONS: u32 = 32;

/// The table is the one that postgres-es describes. It writes events in transactions of its own, in which nothing else
/// can be written; so what has to be unique is indexed where it lies, in the events.
const SCHEMA: &str = "
    create table if not exists events (
        aggregate_type text                         not null,
        aggregate_id   text                         not null,
        sequence       bigint check (sequence >= 0) not null,
        event_type     text                         not null,
        event_version  text                         not null,
        payload        json                         not null,
        metadata       json                         not null,
        primary key (aggregate_type, aggregate_id, sequence)
    );
    create unique index if not exists events_email on events ((payload -> 'Registered' ->> 'email'))
        where event_type = 'account.registered';
    create unique index if not exists events_username on events ((payload -> 'Registered' ->> 'username'))
        where event_type = 'account.registered';
";

#[derive(Clone)]
struct Shop {
    accounts: Arc<PostgresCqrs<Account>>,
    orders: Arc<PostgresCqrs<Order>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let setting = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&setting("DATABASE_URL")?).await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    let read_accounts = PersistedEventStore::new_event_store(PostgresEventRepository::new(pool.clone()));
    let shop = Shop {
        accounts: Arc::new(postgres_cqrs(pool.clone(), vec![], ())),
        orders: Arc::new(postgres_cqrs(pool, vec![], read_accounts)),
    };
    let routes = Router::new()
        .route("/accounts/{id}/register", post(register))
        .route("/orders/{id}/place", post(place))
        .route("/health/ready", get(|| async { "ready\n" }))
        .with_state(shop);
    axum::serve(TcpListener::bind(setting("HEADWATER_LISTEN")?).await?, routes).await?;
    Ok(())
}

async fn register(State(shop): State<Shop>, Path(id): Path<Uuid>, Json(command): Json<Register>) -> Response {
    execute(&shop.accounts, "accounts", id, command, "account.registered").await
}

async fn place(State(shop): State<Shop>, Path(id): Path<Uuid>, Json(command): Json<Place>) -> Response {
    execute(&shop.orders, "orders", id, command, "order.placed").await
}

async fn execute<A: Aggregate>(
    cqrs: &PostgresCqrs<A>,
    plural: &str,
    id: Uuid,
    command: A::Command,
    event: &str,
) -> Response {
    match cqrs.execute(&id.to_string(), command).await {
        Ok(()) => {
            let location = [(header::LOCATION, format!("/{plural}/{id}"))];
            (StatusCode::CREATED, location, Json(json!({"id": id, "events": [event]}))).into_response()
        }
        Err(AggregateError::UserError(refused)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, refused.to_string()).into_response()
        }
        // Of the primary key, or of what is unique beside it: the library does not tell which.
        Err(AggregateError::AggregateConflict) => StatusCode::CONFLICT.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
