//! Why a view is not folded on.

use std::any::Any;

use event_log::FollowError;

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("Postgres: {}", message(.0))]
    Database(sqlx::Error),
    #[error("Postgres does not answer")]
    DatabaseSilent,
    #[error("not connected to NATS")]
    NatsAway,
    #[error(transparent)]
    Log(#[from] FollowError),
    #[error("the reader of the log ended without saying why")]
    ReaderGone,
    /// The checkpoint is not where this projector left it, or the registry names another build.
    #[error("another projector has taken the view over, or it was switched to another build")]
    Fenced,
    /// Not an error: another projector folds fewer views, and takes this one.
    #[error("left to a projector that folds fewer views")]
    Yielded,

    #[error("the database lacks the migrations {0:?}: run `projector migrate` against it")]
    NotMigrated(Vec<i64>),
    #[error("the registry does not fit: {0}")]
    Registry(String),
    #[error(
        "version {in_use} of the view is in use, this program folds version {ours}; to go back to it, run this \
         program's `projector rollback {view}`"
    )]
    Newer { view: &'static str, in_use: i32, ours: i32 },
    #[error("the rows' fields are not the columns of {table}: {difference}")]
    Columns { table: String, difference: String },
    #[error("the stored row {key} cannot be read")]
    StoredRow { key: String, source: serde_json::Error },
    #[error("a row cannot be written as JSON")]
    NewRow(#[source] serde_json::Error),
    #[error("{table}: {written} rows were {done}, expected {expected}; nothing was committed")]
    RowCount { table: String, done: &'static str, written: u64, expected: u64 },
    #[error("the event at position {position} touches more than {rows_max} rows at once")]
    TooManyRows { position: u64, rows_max: usize },
    #[error("an event cannot be applied: {0}")]
    Apply(String),
    #[error(
        "{keys} keys are in quarantine, which is the most that may be: this is no poisoned event, it is the program; \
         correct it and start it again, then retry them"
    )]
    TooManyQuarantined { keys: usize },
    #[error("the new build differs from the log in {0} rows; it was not switched to, and can be looked at")]
    Differs(String),
    /// A new build was folded, and is not read.
    #[error("{0}")]
    NotSwitched(String),
    #[error("the projector panicked: {0}")]
    Panicked(String),
}

impl ViewError {
    /// Whether trying again soon is of no use: a person has to look at it.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Database(error) => is_about_data(error),
            Self::Log(FollowError::Unavailable(_)) => false,
            Self::Log(FollowError::Replaced { .. } | FollowError::Broken { .. }) => true,
            Self::DatabaseSilent | Self::NatsAway | Self::ReaderGone | Self::Fenced | Self::Yielded => false,
            // Somebody is about to run them.
            Self::NotMigrated(_) => false,
            Self::Registry(_)
            | Self::Newer { .. }
            | Self::Columns { .. }
            | Self::StoredRow { .. }
            | Self::NewRow(_)
            | Self::RowCount { .. }
            | Self::TooManyRows { .. }
            | Self::Apply(_)
            | Self::TooManyQuarantined { .. }
            | Self::Differs(_)
            | Self::NotSwitched(_)
            | Self::Panicked(_) => true,
        }
    }

    /// Whether a single event may be to blame, whose key alone need be held back.
    pub fn may_be_poison(&self) -> bool {
        match self {
            Self::Database(error) => is_about_data(error),
            Self::StoredRow { .. } | Self::NewRow(_) | Self::Apply(_) => true,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for ViewError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// The error with its causes, in one line.
pub fn chain(error: ViewError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// What the server said, without the client's words around it; else what the client says.
fn message(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().unwrap_or_default()),
        None => error.to_string(),
    }
}

/// Postgres refused what was written: a value it cannot keep (class 22), or a broken constraint (class 23).
fn is_about_data(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    code.starts_with("22") || code.starts_with("23")
}
