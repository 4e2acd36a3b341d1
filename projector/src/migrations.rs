//! The tables of the views: `migrations/`, embedded in the program.

use std::{collections::BTreeSet, io::ErrorKind, str::FromStr, time::Duration};

use anyhow::Context;
use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// How long a Postgres that does not answer yet is waited for.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_RETRY_DELAY: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Applies what the database lacks, and returns how many migrations it has then. Several may run at once.
pub async fn migrate(database_url: &str) -> anyhow::Result<usize> {
    let options =
        PgConnectOptions::from_str(database_url).context("the URL of the database cannot be used")?;
    let mut connection = connect(&options).await?;
    MIGRATOR.run(&mut connection).await.context("the migrations cannot be applied")?;
    connection.close().await?;
    Ok(MIGRATOR.iter().count())
}

/// The versions that the database lacks.
pub(crate) async fn pending(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let applied = sqlx::query_scalar("select version from _sqlx_migrations where success");
    let applied: BTreeSet<i64> = match applied.fetch_all(connection).await {
        Ok(versions) => versions.into_iter().collect(),
        Err(error) if is_undefined_table(&error) => BTreeSet::new(),
        Err(error) => return Err(error),
    };
    Ok(MIGRATOR.iter().map(|migration| migration.version).filter(|it| !applied.contains(it)).collect())
}

async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let error = match timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if is_starting(&error) => anyhow::Error::from(error),
            Ok(Err(error)) => return Err(error).context("Postgres refused the connection"),
            Err(_) => anyhow::anyhow!("no answer"),
        };
        if Instant::now() >= deadline {
            return Err(error.context(format!("Postgres did not answer for {START_TIMEOUT:?}")));
        }
        sleep(START_RETRY_DELAY).await;
    }
}

/// Nobody listens yet, or the server says that it is starting (57P03) or has no place left (53300).
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != ErrorKind::InvalidInput,
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P03" | "53300")),
        _ => false,
    }
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42P01")
}
