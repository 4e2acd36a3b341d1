//! The registry: which builds a view has, and which of them is read.
//!
//! A build is one folding of a view from the whole log: a table and a checkpoint. A new one is folded beside
//! the one in use, and takes its place in one transaction. Tables are made, emptied and dropped by functions of the
//! database (`migrations/`), because a projector itself may not.

use event_log::Checkpoint;
use sqlx::PgConnection;

use crate::view::ViewError;

/// One folding of a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    pub number: i32,
    pub version: i32,
    pub table: String,
    /// It is the one that is read.
    pub is_in_use: bool,
    /// It is, or once was, the one that is read.
    pub was_used: bool,
    pub checkpoint: Checkpoint,
    /// The projector that folds it, or last did.
    pub folded_by: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    build: i32,
    version: i32,
    table_name: String,
    is_in_use: bool,
    was_used: bool,
    position: i64,
    frame_sequence: i64,
    frame_id: Option<String>,
    folded_by: Option<String>,
}

impl From<Row> for Build {
    fn from(row: Row) -> Self {
        Self {
            number: row.build,
            version: row.version,
            table: row.table_name,
            is_in_use: row.is_in_use,
            was_used: row.was_used,
            checkpoint: Checkpoint {
                position: row.position.cast_unsigned(),
                frame_sequence: row.frame_sequence.cast_unsigned(),
                frame_id: row.frame_id.and_then(|id| id.parse().ok()),
            },
            folded_by: row.folded_by,
        }
    }
}

/// All builds of a view, the oldest first.
pub async fn builds(connection: &mut PgConnection, view: &str) -> Result<Vec<Build>, ViewError> {
    let rows: Vec<Row> = sqlx::query_as(
        "select b.build, b.version, b.table_name, b.build = v.build as is_in_use, b.used_at is not null as was_used,
                c.position, c.frame_sequence, c.frame_id::text as frame_id, c.folded_by
         from views v
         join builds b on b.view = v.name
         join checkpoints c on c.view = b.view and c.build = b.build
         where v.name = $1
         order by b.build",
    )
    .bind(view)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Build::from).collect())
}

/// The build that is read.
pub async fn in_use(connection: &mut PgConnection, view: &str) -> Result<Build, ViewError> {
    let build = builds(connection, view).await?.into_iter().find(|build| build.is_in_use);
    build.ok_or_else(|| {
        let problem = format!("it has no view {view} with a checkpoint; a migration has to add it");
        ViewError::Registry(problem)
    })
}

/// A build that is not in use, as it stands now.
pub async fn find(connection: &mut PgConnection, view: &str, number: i32) -> Result<Build, ViewError> {
    let build = builds(connection, view).await?.into_iter().find(|build| build.number == number);
    build.ok_or_else(|| ViewError::Registry(format!("it has no build {number} of {view}")))
}

/// Makes a build with an empty table like that of the build in use.
pub async fn create(connection: &mut PgConnection, view: &str, version: i32) -> Result<Build, ViewError> {
    let create = sqlx::query_scalar("select create_build($1, $2)").bind(view).bind(version);
    let number: i32 = create.fetch_one(&mut *connection).await?;
    find(connection, view, number).await
}

/// Empties a build that nobody reads: it is folded from the start of the log again.
pub async fn begin_anew(connection: &mut PgConnection, view: &str, build: &Build) -> Result<(), ViewError> {
    let empty = sqlx::query_scalar("select empty_build($1, $2)").bind(view).bind(build.number);
    if empty.fetch_one(connection).await? { Ok(()) } else { Err(ViewError::Fenced) }
}

/// Begins a new term of the view: what was read in the term before says nothing about the rows from now on.
pub async fn begin_term(connection: &mut PgConnection, view: &str) -> Result<u64, ViewError> {
    let term =
        sqlx::query_scalar("update views set term = term + 1 where name = $1 returning term").bind(view);
    let term: i64 = term.fetch_one(connection).await?;
    Ok(term.cast_unsigned())
}

/// Makes `to` the build that is read, if `from` is, and gives the term that begins with it. Part of a
/// transaction of the caller.
pub async fn switch(
    transaction: &mut PgConnection,
    view: &str,
    from: i32,
    to: &Build,
) -> Result<u64, ViewError> {
    let term: Option<i64> = sqlx::query_scalar(
        "update views set build = $1, version = $2, table_name = $3, term = term + 1
         where name = $4 and build = $5 returning term",
    )
    .bind(to.number)
    .bind(to.version)
    .bind(&to.table)
    .bind(view)
    .bind(from)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(term) = term else { return Err(ViewError::Fenced) };
    sqlx::query("update builds set used_at = coalesce(used_at, now()) where view = $1 and build = $2")
        .bind(view)
        .bind(to.number)
        .execute(&mut *transaction)
        .await?;
    Ok(term.cast_unsigned())
}

/// Drops a build that is not in use, with its table.
pub async fn drop_build(connection: &mut PgConnection, view: &str, build: &Build) -> Result<(), ViewError> {
    let drop = sqlx::query_scalar("select drop_build($1, $2)").bind(view).bind(build.number);
    if drop.fetch_one(connection).await? {
        return Ok(());
    }
    Err(ViewError::Registry(format!("build {} of {view} is in use", build.number)))
}
