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
        let mut transaction = within(ANSWER_TIMEOUT, connection.begin()).await?;
        // Those that rows are found by while folding stay, and those that keep a constraint.
        let indexes: Vec<(String, String)> = within(
            ANSWER_TIMEOUT,
            sqlx::query_as(
                "select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
                 from pg_index i
                 left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                 where i.indrelid = to_regclass(quote_ident($1)) and (a.attname = any($2)) is not true
                   and not exists (select from pg_constraint c where c.conindid = i.indexrelid)",
            )
            .bind(&build.table)
            .bind(self.definition.found_by)
            .fetch_all(&mut *transaction),
        )
        .await?;
        for (index, _) in &indexes {
            // Safe: Postgres quoted the name.
            let drop = AssertSqlSafe(format!("drop index {index}"));
            within(ANSWER_TIMEOUT, sqlx::query(drop).execute(&mut *transaction)).await?;
        }
        let statements: Vec<String> = indexes.into_iter().map(|(_, statement)| statement).collect();
        let note = sqlx::query(
            "update builds set indexes_to_make = indexes_to_make || $1 where view = $2 and build = $3",
        );
        let note = note.bind(statements).bind(self.definition.name).bind(build.number);
        within(ANSWER_TIMEOUT, note.execute(&mut *transaction)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await
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
            // Safe: it is what Postgres said of an index of this very table.
            sqlx::query(AssertSqlSafe(statement.as_str())).execute(&mut *transaction).await?;
            let made = sqlx::query(
                "update builds set indexes_to_make = array_remove(indexes_to_make, $1) where view = $2 and build = $3",
            );
            let made = made.bind(statement).bind(view).bind(build.number);
            within(ANSWER_TIMEOUT, made.execute(&mut *transaction)).await?;
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
