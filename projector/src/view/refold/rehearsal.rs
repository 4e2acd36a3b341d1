//! Asks Postgres whether it would take a row, without touching the view.

use domain::view::{Definition, Fold};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgConnectOptions};

use crate::{
    registry::{self, Build},
    view::{
        database::{self, ANSWER_TIMEOUT, within},
        error::{ViewError, chain},
        table::Table,
    },
};

/// A table like a build's, of this session alone.
pub struct Rehearsal {
    connection: PgConnection,
    table: Table,
}

impl Rehearsal {
    pub async fn open(options: &PgConnectOptions, view: &Definition, build: i32) -> Result<Self, ViewError> {
        let mut connection = database::connect(options, "rehearsal").await?;
        database::be_patient(&mut connection).await?;
        let build = within(ANSWER_TIMEOUT, registry::find(&mut connection, view.name, build)).await?;
        let create = "select format('create temp table rehearsal (like %I including all)', $1)";
        let create = sqlx::query_scalar(create).bind(&build.table).fetch_one(&mut connection);
        let create: String = within(ANSWER_TIMEOUT, create).await?;
        // Safe: Postgres quoted the name.
        within(ANSWER_TIMEOUT, sqlx::query(AssertSqlSafe(create)).execute(&mut connection)).await?;
        let build = Build { table: "rehearsal".to_owned(), ..build };
        let table = within(ANSWER_TIMEOUT, Table::load(&mut connection, view, &build)).await?;
        Ok(Self { connection, table })
    }

    /// What Postgres has against the row as it was folded, if anything.
    pub async fn refuses(&mut self, fold: &dyn Fold, key: &String) -> Result<Option<String>, ViewError> {
        match self.write(fold, key).await {
            Ok(()) => Ok(None),
            Err(error) if error.may_be_poison() => Ok(Some(chain(error))),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, fold: &dyn Fold, key: &String) -> Result<(), ViewError> {
        let encoded = fold.encode(std::slice::from_ref(key), false).map_err(ViewError::NewRow)?;
        // A row that is gone, or as it was, is one that Postgres has nothing against.
        if encoded.count > 0 {
            let upsert = sqlx::query(AssertSqlSafe(self.table.statements.upsert.as_str())).bind(encoded.rows);
            within(ANSWER_TIMEOUT, upsert.execute(&mut self.connection)).await?;
        }
        Ok(())
    }
}
