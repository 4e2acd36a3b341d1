//! A session with Postgres: how it is opened, what it may take, and the lock that it holds on a build.

use std::time::Duration;

use event_log::Checkpoint;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

use super::error::ViewError;

/// Postgres may take this long over one statement.
const STATEMENT_TIMEOUT_MS: u64 = 30_000;
/// A projector that is stopped (SIGSTOP, a frozen machine) loses its session, and with it the view, after
/// this long; a working one is never silent for more than a second.
const SILENCE_TIMEOUT_MS: u64 = 10_000;
/// A statement that does not answer even so was sent to a server that is gone.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(STATEMENT_TIMEOUT_MS + 5_000);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn connect(options: &PgConnectOptions, purpose: &str) -> Result<PgConnection, ViewError> {
    let options = options
        .clone()
        .application_name(&format!("headwater projector {purpose}"))
        // Keys are compared as text.
        .options([("jit", "off"), ("row_security", "off"), ("datestyle", "ISO")])
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

/// For a session that folds a build which nobody reads yet: it may be silent while the log is read for
/// comparison, and need not wait for the disk, because what a crash of Postgres takes back it takes back
/// together with the checkpoint.
pub async fn be_patient(connection: &mut PgConnection) -> Result<(), ViewError> {
    let settings = "select set_config('idle_session_timeout', '0', false),
                           set_config('synchronous_commit', 'off', false)";
    within(ANSWER_TIMEOUT, sqlx::query(settings).execute(connection)).await?;
    Ok(())
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

/// The number of the lock that makes a session the one that folds a build.
const LOCK: &str = "hashtextextended('headwater view ' || $1 || ' build ' || $2, 0)";

/// Takes that lock. It lasts as long as the session.
pub async fn try_lock(connection: &mut PgConnection, view: &str, build: i32) -> Result<bool, ViewError> {
    let lock = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select pg_try_advisory_lock({LOCK})")));
    let lock = lock.bind(view).bind(build.to_string());
    within(ANSWER_TIMEOUT, lock.fetch_one(connection)).await
}

/// A projector that folds a build which is not in use any more notices within this time.
const LEAVES_WITHIN: Duration = Duration::from_secs(4);
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Takes that lock of a build that is not in use, from which a projector may have yet to go away.
pub async fn lock_unused(connection: &mut PgConnection, view: &str, build: i32) -> Result<bool, ViewError> {
    let deadline = Instant::now() + LEAVES_WITHIN;
    loop {
        let is_ours = try_lock(connection, view, build).await?;
        if is_ours || Instant::now() >= deadline {
            return Ok(is_ours);
        }
        end_silent_holder(connection, view, build).await?;
        sleep(LOCK_RETRY).await;
    }
}

/// Gives it back.
pub async fn unlock(connection: &mut PgConnection, view: &str, build: i32) -> Result<(), ViewError> {
    let unlock = sqlx::query(sqlx::AssertSqlSafe(format!("select pg_advisory_unlock({LOCK})")));
    within(ANSWER_TIMEOUT, unlock.bind(view).bind(build.to_string()).execute(connection)).await?;
    Ok(())
}

/// Selects the `pid` of the session that holds that lock.
fn holder() -> String {
    format!(
        "select pid from pg_locks, (select {LOCK} as number) as lock
         where locktype = 'advisory' and objsubid = 1 and granted
           and database = (select oid from pg_database where datname = current_database())
           and ((classid::bigint << 32) | objid::bigint) = lock.number"
    )
}

/// Whether nobody holds that lock at this moment.
pub async fn is_unlocked(connection: &mut PgConnection, view: &str, build: i32) -> Result<bool, ViewError> {
    let unlocked = sqlx::AssertSqlSafe(format!("select not exists ({})", holder()));
    let unlocked = sqlx::query_scalar(unlocked).bind(view).bind(build.to_string());
    within(ANSWER_TIMEOUT, unlocked.fetch_one(connection)).await
}

/// Ends the session that holds that lock, if Postgres has waited long enough for its client in the midst of a statement:
/// for the rest of a copy, or for an answer to be taken. No timeout of Postgres runs there: they bound the time between
/// statements, and what a statement does by itself.
pub async fn end_silent_holder(
    connection: &mut PgConnection,
    view: &str,
    build: i32,
) -> Result<bool, ViewError> {
    let end = sqlx::AssertSqlSafe(format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where pid in ({}) and state = 'active' and wait_event in ('ClientRead', 'ClientWrite')
           and state_change < clock_timestamp() - $3 * interval '1 millisecond'",
        holder()
    ));
    let end = sqlx::query_scalar(end).bind(view).bind(build.to_string()).bind(SILENCE_TIMEOUT_MS as f64);
    Ok(within(ANSWER_TIMEOUT, end.fetch_optional(connection)).await?.unwrap_or(false))
}

/// Where a build's checkpoint is, and which build is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    pub checkpoint: Checkpoint,
    pub build_in_use: i32,
}

pub async fn stored(connection: &mut PgConnection, view: &str, build: i32) -> Result<Stored, ViewError> {
    let row = sqlx::query_as(
        "select c.position, c.frame_sequence, c.frame_id::text, v.build
         from checkpoints c join views v on v.name = c.view
         where c.view = $1 and c.build = $2",
    )
    .bind(view)
    .bind(build);
    let row: Option<(i64, i64, Option<String>, i32)> =
        within(ANSWER_TIMEOUT, row.fetch_optional(connection)).await?;
    let Some((position, frame_sequence, frame_id, build_in_use)) = row else {
        return Err(ViewError::Fenced);
    };
    let checkpoint = Checkpoint {
        position: position.cast_unsigned(),
        frame_sequence: frame_sequence.cast_unsigned(),
        frame_id: frame_id.and_then(|id| id.parse().ok()),
    };
    Ok(Stored { checkpoint, build_in_use })
}

/// Says who folds a build, for people.
pub async fn sign(connection: &mut PgConnection, view: &str, build: i32, me: &str) -> Result<(), ViewError> {
    let sign = sqlx::query("update checkpoints set folded_by = $1 where view = $2 and build = $3");
    within(ANSWER_TIMEOUT, sign.bind(me).bind(view).bind(build).execute(connection)).await?;
    Ok(())
}
