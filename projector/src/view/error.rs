//! Why a view is not folded on.

use domain::application::EventError;
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
    /// The checkpoint is not where this projector left it, or the registry names another table.
    #[error("another projector has taken the view over, or it was switched to another table")]
    Fenced,

    #[error("the database lacks the migrations {0:?}: run `projector migrate` against it")]
    NotMigrated(Vec<i64>),
    #[error("the registry does not fit: {0}")]
    Registry(String),
    #[error("the rows' fields are not the columns of {table}: {difference}")]
    Columns { table: String, difference: String },
    #[error("the event at position {position} cannot be read")]
    Event { position: u64, source: EventError },
    #[error("the event at position {position} has {problem}")]
    Envelope { position: u64, problem: &'static str },
    #[error("the stored row {key} cannot be read")]
    StoredRow { key: String, source: serde_json::Error },
    #[error("a row cannot be written as JSON")]
    NewRow(#[source] serde_json::Error),
    #[error("{table}: {written} rows were {done}, expected {expected}; nothing was committed")]
    RowCount { table: String, done: &'static str, written: u64, expected: u64 },
    #[error("the view's own functions panicked: {0}")]
    Panicked(String),
}

impl ViewError {
    /// Whether trying again soon is of no use: a person has to look at it.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Database(error) => is_about_data(error),
            Self::Log(FollowError::Unavailable(_)) => false,
            Self::Log(FollowError::Replaced { .. } | FollowError::Broken { .. }) => true,
            Self::DatabaseSilent | Self::NatsAway | Self::ReaderGone | Self::Fenced => false,
            // Somebody is about to run them.
            Self::NotMigrated(_) => false,
            Self::Registry(_)
            | Self::Columns { .. }
            | Self::Event { .. }
            | Self::Envelope { .. }
            | Self::StoredRow { .. }
            | Self::NewRow(_)
            | Self::RowCount { .. }
            | Self::Panicked(_) => true,
        }
    }
}

impl From<sqlx::Error> for ViewError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
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
