//! A view's own session with Postgres: how it is opened, and what it holds while it lasts.

use std::time::Duration;

use event_log::Checkpoint;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::error::ViewError;

/// Postgres may take this long over one statement.
const STATEMENT_TIMEOUT_MS: u64 = 30_000;
/// A projector that is stopped (SIGSTOP, a frozen machine) loses its session, and with it the view, after
/// this long; a working one is never silent for more than a second.
const SILENCE_TIMEOUT_MS: u64 = 10_000;
/// A statement that does not answer even so was sent to a server that is gone.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(STATEMENT_TIMEOUT_MS + 5_000);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn connect(options: &PgConnectOptions, view: &str) -> Result<PgConnection, ViewError> {
    let options = options
        .clone()
        .application_name(&format!("headwater projector {view}"))
        .options([("jit", "off"), ("row_security", "off")])
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT_MS),
            ("lock_timeout", SILENCE_TIMEOUT_MS),
            ("idle_session_timeout", SILENCE_TIMEOUT_MS),
            ("idle_in_transaction_session_timeout", SILENCE_TIMEOUT_MS),
            // A client whose machine vanished is noticed by the server within seconds, too.
            ("tcp_user_timeout", SILENCE_TIMEOUT_MS),
            ("tcp_keepalives_idle", 5),
            ("tcp_keepalives_interval", 2),
            ("tcp_keepalives_count", 3),
        ]);
    within(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await
}

/// Bounds what Postgres's own timeouts do not: a server or network that fell silent.
pub async fn within<T, E>(
    duration: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, ViewError>
where
    ViewError: From<E>,
{
    Ok(timeout(duration, work).await.map_err(|_| ViewError::DatabaseSilent)??)
}

/// Takes the lock that makes this session the one that folds the view. It lasts as long as the session.
pub async fn try_lock(connection: &mut PgConnection, view: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('headwater view ' || $1, 0))")
        .bind(view)
        .fetch_one(connection)
        .await
}

/// What the database says of a view: its checkpoint, and the version that is public.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    pub checkpoint: Checkpoint,
    version: i32,
}

/// Reads where the view is.
pub async fn stored(connection: &mut PgConnection, view: &str) -> Result<Stored, ViewError> {
    let row: Option<(i64, i64, Option<String>, i32)> = sqlx::query_as(
        "select c.position, c.frame_sequence, c.frame_id::text, v.version
         from checkpoints c join views v on v.name = c.view
         where c.view = $1",
    )
    .bind(view)
    .fetch_optional(connection)
    .await?;
    let Some((position, frame_sequence, frame_id, version)) = row else {
        let problem = format!("there is no checkpoint of {view}; a migration has to add it");
        return Err(ViewError::Registry(problem));
    };
    let checkpoint = Checkpoint {
        position: position.cast_unsigned(),
        frame_sequence: frame_sequence.cast_unsigned(),
        frame_id: frame_id.and_then(|id| id.parse().ok()),
    };
    Ok(Stored { checkpoint, version })
}
