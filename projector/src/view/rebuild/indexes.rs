//! A table is filled without its indexes, which are made in the end: that takes a fraction of the time.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Phase, Rebuild};
use crate::{
    registry::Build,
    view::{
        ViewError,
        database::{ANSWER_TIMEOUT, within},
        folding::Folding,
    },
};

impl Rebuild<'_> {
    /// Drops the indexes of a table that is still empty, and notes how to make them.
    pub(super) async fn leave_out_indexes(
        &self,
        connection: &mut PgConnection,
        build: &Build,
    ) -> Result<(), ViewError> {
        if build.checkpoint.frame_sequence > 0 {
            return Ok(());
        }
        let leave_out = sqlx::query("select leave_out_indexes($1, $2, $3)");
        let leave_out =
            leave_out.bind(self.definition.name).bind(build.number).bind(self.definition.found_by);
        within(ANSWER_TIMEOUT, leave_out.execute(connection)).await?;
        Ok(())
    }

    pub(super) async fn make_indexes(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<(), ViewError> {
        let view = self.definition.name;
        let statements =
            sqlx::query_scalar("select unnest(indexes_to_make) from builds where view = $1 and build = $2");
        let statements: Vec<String> =
            within(ANSWER_TIMEOUT, statements.bind(view).bind(build.number).fetch_all(&mut *connection))
                .await?;
        let position = folding.folder.stored.position;
        for statement in &statements {
            self.progress(Phase::Indexing, build.number, position, position);
            let mut transaction = within(ANSWER_TIMEOUT, connection.begin()).await?;
            // Takes as long as it takes.
            let patience = "select set_config('statement_timeout', '0', true),
                                   set_config('maintenance_work_mem', '128MB', true)";
            sqlx::query(patience).execute(&mut *transaction).await?;
            let make = sqlx::query("select make_index($1, $2, $3)");
            make.bind(view).bind(build.number).bind(statement).execute(&mut *transaction).await?;
            within(ANSWER_TIMEOUT, transaction.commit()).await?;
        }
        // Quoted by Postgres. A table without statistics would be read by the wrong plans at first.
        let analyze = "select 'analyze ' || quote_ident($1)";
        let analyze: String = within(
            ANSWER_TIMEOUT,
            sqlx::query_scalar(analyze).bind(&build.table).fetch_one(&mut *connection),
        )
        .await?;
        within(ANSWER_TIMEOUT, sqlx::query(AssertSqlSafe(analyze)).execute(connection)).await?;
        Ok(())
    }
}
