//! The connections to Postgres, and what its errors mean to a query.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use service_kit::{Problem, problem::kinds::OVERLOADED};
use sqlx::{
    AssertSqlSafe, PgPool, Postgres,
    pool::PoolConnectionMetadata,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};

use crate::{
    coherence::Source,
    config::Bounds,
    line::Line,
    problems::{INVALID_VALUE, RETRY_AFTER_S, views_unavailable},
    sql::{Statement, Value},
    standby::Wellness,
};

/// What the network may add to the time that Postgres was given.
const NETWORK_SLACK: Duration = Duration::from_millis(500);

/// Statements prepared a connection: about every shape of a few dozen views, with some choices of fields.
const STATEMENTS_PREPARED: usize = 500;

/// How every connection is opened. Every query on offer is served by an index in its order, so the planner
/// is told never to choose a scan of the table or a sort, whatever its statistics say; and as there is only
/// one good plan, it is made once.
pub fn connect_options(database_url: &str, bounds: &Bounds) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(database_url)?;
    Ok(options
        .application_name("headwater query-service")
        .statement_cache_capacity(STATEMENTS_PREPARED)
        .options([
            ("TimeZone", "UTC"),
            ("default_transaction_read_only", "on"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_sort", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
        ])
        .options([("statement_timeout", bounds.statement_timeout().as_millis().to_string())]))
}

/// Why a statement gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("Postgres cannot be reached: {0}")]
    Unreachable(#[source] sqlx::Error),
    #[error("no connection is free in time")]
    Busy,
    #[error("the statement took too long")]
    TooSlow,
    /// The catalog named a table or column that is no longer there.
    #[error("the catalog is out of date")]
    OutOfDate,
    #[error("a value is not of its column's type: {0}")]
    BadValue(#[source] sqlx::Error),
    #[error(transparent)]
    Other(sqlx::Error),
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        // Appendix A of the Postgres manual lists the codes; the first two characters are the class.
        match (&error, code.as_str()) {
            (E::PoolTimedOut, _) | (E::Database(_), "53300") => Self::Busy,
            (E::Database(_), "57014") => Self::TooSlow,
            (E::Database(_), "42P01" | "42703" | "3F000") => Self::OutOfDate,
            (E::Database(_), code) if code.starts_with("22") => Self::BadValue(error),
            _ if is_lost(&error) => Self::Unreachable(error),
            _ => Self::Other(error),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unreachable(error) => {
                tracing::warn!(%error, "a query found Postgres unreachable");
                views_unavailable("The database of the views cannot be reached.")
            }
            ReadError::OutOfDate => views_unavailable("The view is being switched to another version."),
            ReadError::Busy => overloaded("No connection to the database is free in time."),
            ReadError::TooSlow => overloaded("The database took too long over the query."),
            // Values are checked before; this is left for what only the column's own type can know.
            ReadError::BadValue(_) => {
                Self::new(INVALID_VALUE, "A value is outside what its column can hold.")
            }
            ReadError::Other(error) => Self::internal(error),
        }
    }
}

pub fn overloaded(detail: &str) -> Problem {
    Problem::new(OVERLOADED, detail).retry_after(RETRY_AFTER_S)
}

/// Whether the connection, rather than the statement, is at fault: the network (class 08), or the server is
/// stopping, starting or has crashed (57P…).
fn is_lost(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::WorkerCrashed => true,
        E::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// The primary and, if there is one, the standby that is asked first.
#[derive(Clone)]
pub struct Databases {
    primary: Database,
    standby: Option<(Database, Wellness)>,
}

impl Databases {
    pub fn new(primary: Database, standby: Option<(Database, Wellness)>) -> Self {
        Self { primary, standby }
    }

    /// Who is asked first.
    pub fn nearest(&self) -> Source {
        match &self.standby {
            Some((_, wellness)) if wellness.is_well() => Source::Standby,
            _ => Source::Primary,
        }
    }

    pub fn of(&self, source: Source) -> &Database {
        match &self.standby {
            Some((standby, _)) if source == Source::Standby => standby,
            _ => &self.primary,
        }
    }

    pub fn standby_failed(&self, reason: &dyn std::fmt::Display) {
        if let Some((_, wellness)) = &self.standby {
            wellness.has_failed(reason);
        }
    }

    pub async fn close(&self) {
        self.primary.close().await;
        if let Some((standby, _)) = &self.standby {
            standby.close().await;
        }
    }
}

/// A bounded pool of connections.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    lost: Lost,
    line: Arc<Line>,
    patience: Duration,
}

impl Database {
    pub fn new(options: PgConnectOptions, bounds: &Bounds) -> Self {
        let lost = Lost::default();
        let seen = lost.clone();
        let pool = PgPoolOptions::new()
            .max_connections(bounds.pool_size)
            .acquire_timeout(bounds.acquire_timeout())
            // A ping before each query would double its round trips; `Lost` finds the dead ones instead.
            .test_before_acquire(false)
            .before_acquire(move |_, connection| {
                let usable = seen.is_after(&connection);
                Box::pin(async move { Ok(usable) })
            })
            .connect_lazy_with(options);
        let patience = bounds.acquire_timeout() + bounds.statement_timeout() + NETWORK_SLACK;
        Self { pool, lost, line: Arc::new(Line::new(bounds)), patience }
    }

    /// The one row of the statement, if it gives one. A connection that turns out to be dead is replaced
    /// once: reading twice does no harm.
    pub async fn fetch(&self, statement: &Statement) -> Result<Option<PgRow>, ReadError> {
        let reading = async {
            match self.try_fetch(statement).await {
                Err(error) if is_lost(&error) => {
                    self.lost.now();
                    self.try_fetch(statement).await
                }
                result => result,
            }
        };
        let place = self.line.join().ok_or(ReadError::Busy)?;
        match tokio::time::timeout(self.patience, reading).await {
            Ok(Ok(row)) => {
                place.answered();
                Ok(row)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(ReadError::TooSlow),
        }
    }

    async fn try_fetch(&self, statement: &Statement) -> Result<Option<PgRow>, sqlx::Error> {
        bound(&statement.sql, &statement.values).fetch_optional(&self.pool).await
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The statement with its values.
pub fn bound<'a>(sql: &'a str, values: &'a [Value]) -> Query<'a, Postgres, PgArguments> {
    // Safe: identifiers in it are the catalog's, quoted, and every value is bound.
    let query = sqlx::query(AssertSqlSafe(sql));
    values.iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Texts(texts) => query.bind(texts),
        Value::Integer(integer) => query.bind(integer),
    })
}

/// When a connection was last found dead. A restart of Postgres kills all of them at once, so those that
/// are older are not tried.
#[derive(Clone, Default)]
struct Lost(Arc<Mutex<Option<Instant>>>);

impl Lost {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_after(&self, connection: &PoolConnectionMetadata) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_none_or(|lost| lost.elapsed() > connection.age)
    }
}
