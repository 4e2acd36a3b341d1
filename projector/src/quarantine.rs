//! Keys that are folded no further, because an event could not be applied to them. The database holds them;
//! the session that folds the view does what people ask for there, so that they may ask any projector, or
//! the database itself.

use std::time::Duration;

use domain::Recorded;
use serde::Serialize;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::view::{Unreadable, ViewError};

/// A key in quarantine, as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Entry {
    pub view: String,
    pub build: i32,
    /// Whether that build is the one that is read.
    pub in_use: bool,
    /// The row's key; `<aggregate>:<id>` where the event cannot be read, so that its rows are not known.
    pub key: String,
    /// Of the event that could not be applied.
    pub position: i64,
    /// The event, in JSON.
    pub event: String,
    pub error: String,
    /// Events held back so far.
    pub held: i64,
    /// RFC 3339.
    pub since: String,
    pub attempts: i32,
    /// `retry` or `skip`: what was asked for and is not done yet.
    pub request: Option<String>,
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Fold the key again from the log.
    Retry,
    /// The same without the event, for this reason.
    Skip { reason: String },
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// The key is folded up to where its view is.
    Released,
    /// It still cannot be folded.
    Quarantined { position: i64, error: String, attempts: i32 },
    /// No projector has taken it up yet; it will be done as soon as one folds the view.
    Pending,
}

#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    #[error("`{key}` of `{view}` is not in quarantine")]
    NoSuchKey { view: String, key: String },
    #[error("a reason is required, of at most {REASON_CHARS_MAX} characters")]
    Reason,
    #[error("Postgres: {0}")]
    Database(#[from] sqlx::Error),
}

const REASON_CHARS_MAX: usize = 500;
/// As many are listed.
const LISTED_MAX: i64 = 1_000;
/// So often is looked what has come of a request.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Those in quarantine, the newest trouble last.
pub async fn list(connection: &mut PgConnection, view: Option<&str>) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as(
        "select q.view, q.build, v.build = q.build as in_use, q.key, q.position, q.event, q.error, q.held,
                to_char(q.since at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') as since, q.attempts, q.request
         from quarantine q join views v on v.name = q.view
         where $1::text is null or q.view = $1
         order by q.since, q.view, q.key limit $2",
    )
    .bind(view)
    .bind(LISTED_MAX)
    .fetch_all(connection)
    .await
}

/// Asks the session that folds the view to do it, in every build that has the key in quarantine. Gives the build
/// that is read, if that has it; else another, for which the next rebuild does it.
pub async fn request(
    connection: &mut PgConnection,
    view: &str,
    key: &str,
    request: &Request,
) -> Result<i32, QuarantineError> {
    let (name, reason) = match request {
        Request::Retry => ("retry", None),
        Request::Skip { reason } => ("skip", Some(reason.trim())),
    };
    if reason.is_some_and(|reason| reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX) {
        return Err(QuarantineError::Reason);
    }
    let asked: Option<i32> = sqlx::query_scalar(
        "with asked as (
            update quarantine set request = $1, reason = $2 where view = $3 and key = $4 returning build
         )
         select a.build from asked a left join views v on v.name = $3 and v.build = a.build
         order by v.build nulls last, a.build desc limit 1",
    )
    .bind(name)
    .bind(reason)
    .bind(view)
    .bind(key)
    .fetch_optional(connection)
    .await?;
    asked.ok_or_else(|| QuarantineError::NoSuchKey { view: view.to_owned(), key: key.to_owned() })
}

/// Waits until it is done in the build, or not done within `patience`.
pub async fn outcome(
    connection: &mut PgConnection,
    view: &str,
    key: &str,
    build: i32,
    patience: Duration,
) -> Result<Outcome, sqlx::Error> {
    let deadline = Instant::now() + patience;
    loop {
        let entry: Option<(i64, String, i32, Option<String>)> = sqlx::query_as(
            "select position, error, attempts, request from quarantine where view = $1 and build = $2 and key = $3",
        )
        .bind(view)
        .bind(build)
        .bind(key)
        .fetch_optional(&mut *connection)
        .await?;
        match entry {
            None => return Ok(Outcome::Released),
            Some((position, error, attempts, None)) => {
                return Ok(Outcome::Quarantined { position, error, attempts });
            }
            Some(_) if Instant::now() >= deadline => return Ok(Outcome::Pending),
            Some(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// An event that could not be applied to a key.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    pub key: String,
    /// The key is not a row's, but the whole aggregate's.
    pub of_aggregate: bool,
    pub position: u64,
    pub event: String,
    pub error: String,
    /// Events held back so far, this one included.
    pub held: u64,
}

impl Poison {
    pub fn of_row(key: String, recorded: &Recorded, error: String) -> Self {
        let (event_type, data) = recorded.event.encode();
        let event = json!({
            "position": recorded.position.to_string(), "type": event_type, "subject": recorded.id,
            "time": recorded.time.to_string(), "data": data,
        });
        Self {
            key,
            of_aggregate: false,
            position: recorded.position,
            event: event.to_string(),
            error,
            held: 1,
        }
    }
}

impl From<&Unreadable> for Poison {
    fn from(unreadable: &Unreadable) -> Self {
        let Unreadable { position, aggregate_key, event, error } = unreadable.clone();
        Self { key: aggregate_key, of_aggregate: true, position, event, error, held: 1 }
    }
}

/// Puts a key into quarantine, or notes that it stays there: an attempt that was asked for is over then.
pub(crate) async fn put(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
    poison: &Poison,
) -> Result<(), ViewError> {
    sqlx::query(
        "insert into quarantine as q (view, build, key, of_aggregate, position, event, error, held)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (view, build, key) do update
         set position = excluded.position, event = excluded.event, error = excluded.error, held = excluded.held,
             attempts = q.attempts + 1, tried_at = now(), request = null, reason = null",
    )
    .bind(view)
    .bind(build)
    .bind(&poison.key)
    .bind(poison.of_aggregate)
    .bind(poison.position.cast_signed())
    .bind(&poison.event)
    .bind(&poison.error)
    .bind(poison.held.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn release(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
    key: &str,
) -> Result<(), ViewError> {
    sqlx::query("delete from quarantine where view = $1 and build = $2 and key = $3")
        .bind(view)
        .bind(build)
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps what a person decided to leave out, and releases the request from having to be decided again.
pub(crate) async fn skip(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
    key: &str,
) -> Result<(), ViewError> {
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "insert into skipped_events (view, key, position, event, error, reason)
         select view, key, position, event, error, coalesce(reason, '') from quarantine
         where view = $1 and build = $2 and key = $3 and request = 'skip'
         on conflict do nothing",
    )
    .bind(view)
    .bind(build)
    .bind(key)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "update quarantine set request = 'retry' where view = $1 and build = $2 and key = $3 and request = 'skip'",
    )
    .bind(view)
    .bind(build)
    .bind(key)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Counts events that were held back.
pub(crate) async fn count(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
    held: &[(String, u64)],
) -> Result<(), ViewError> {
    let held = held.iter().map(|(key, count)| (key.as_str(), count.cast_signed()));
    let (keys, counts): (Vec<&str>, Vec<i64>) = held.unzip();
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update quarantine q set held = q.held + counted.held
         from unnest($1::text[], $2::bigint[]) as counted (key, held)
         where q.view = $3 and q.build = $4 and q.key = counted.key",
    )
    .bind(keys)
    .bind(counts)
    .bind(view)
    .bind(build)
    .execute(connection)
    .await?;
    Ok(())
}

/// The keys of a build in quarantine, and the positions from which on they are.
pub(crate) async fn keys(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
) -> Result<Vec<(u64, String)>, ViewError> {
    let keys = sqlx::query_as("select position, key from quarantine where view = $1 and build = $2");
    let keys: Vec<(i64, String)> = keys.bind(view).bind(build).fetch_all(connection).await?;
    Ok(keys.into_iter().map(|(position, key)| (position.cast_unsigned(), key)).collect())
}

/// What put a key into quarantine.
pub(crate) async fn poison(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
    key: String,
) -> Result<Poison, ViewError> {
    let (of_aggregate, position, event, error, held): (bool, i64, String, String, i64) = sqlx::query_as(
        "select of_aggregate, position, event, error, held from quarantine
         where view = $1 and build = $2 and key = $3",
    )
    .bind(view)
    .bind(build)
    .bind(&key)
    .fetch_one(connection)
    .await?;
    let (position, held) = (position.cast_unsigned(), held.cast_unsigned());
    Ok(Poison { key, of_aggregate, position, event, error, held })
}

/// What of a view's events is left out for good: positions and keys.
pub(crate) async fn skipped(
    connection: &mut PgConnection,
    view: &str,
) -> Result<Vec<(u64, String)>, ViewError> {
    let rows: Vec<(i64, String)> = sqlx::query_as("select position, key from skipped_events where view = $1")
        .bind(view)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|(position, key)| (position.cast_unsigned(), key)).collect())
}

/// What was asked for in a build, and is to be done.
pub(crate) async fn requests(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
) -> Result<Vec<(String, Request)>, ViewError> {
    let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select key, request, reason from quarantine
         where view = $1 and build = $2 and request is not null order by since, key",
    )
    .bind(view)
    .bind(build)
    .fetch_all(connection)
    .await?;
    let request = |(key, name, reason): (String, String, Option<String>)| match name.as_str() {
        "skip" => (key, Request::Skip { reason: reason.unwrap_or_default() }),
        _ => (key, Request::Retry),
    };
    Ok(rows.into_iter().map(request).collect())
}
