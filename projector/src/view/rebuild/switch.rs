//! One build takes the place of another, between two transactions of whoever folds that.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::{Phase, Rebuild, RebuildError};
use crate::{
    registry::{self, Build},
    signal::Signaller,
    view::{
        database::{self, ANSWER_TIMEOUT, within},
        folding::Folding,
    },
};

/// The build that is read stands still for so long at the most while the new one takes in the last events.
const SWITCH_WITHIN: Duration = Duration::from_secs(5);
const SWITCH_ATTEMPTS: u32 = 20;

impl Rebuild<'_> {
    /// Puts the build in the place of the one that is read, which stands still meanwhile, so that no reader
    /// ever sees the view go back. Gives the number of the build that was read before.
    pub(super) async fn switch(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<i32, RebuildError> {
        let mut freezer = database::connect(&self.options, "switch").await?;
        for _ in 0..SWITCH_ATTEMPTS {
            // Verifying took its time, or the one that is read had gone far ahead.
            self.fold(connection, folding, build).await?;
            let position = folding.folder.stored.position;
            self.progress(Phase::Switching, build.number, position, position);
            if let Some((from, term)) = self.try_switch(connection, &mut freezer, folding, build).await? {
                // Who folds the build from now on need not wait for what follows here.
                database::unlock(connection, self.definition.name, build.number).await?;
                self.say_reset(term, folding.folder.stored.position).await;
                return Ok(from);
            }
        }
        Err(RebuildError::TooFast)
    }

    async fn try_switch(
        &self,
        connection: &mut PgConnection,
        freezer: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<Option<(i32, u64)>, RebuildError> {
        let view = self.definition.name;
        let mut switch = within(ANSWER_TIMEOUT, freezer.begin()).await?;
        // Who folds the build in use waits here before its next transaction.
        let frozen = sqlx::query_scalar(
            "select c.build from checkpoints c join views v on v.name = c.view and v.build = c.build
             where c.view = $1 for update of c",
        );
        let frozen: Option<i32> =
            within(ANSWER_TIMEOUT, frozen.bind(view).fetch_optional(&mut *switch)).await?;
        let Some(from) = frozen else { return Ok(None) };
        let database::Stored { checkpoint, .. } = database::stored(&mut switch, view, from).await?;
        let is_of_this_log = self.is_of_this_log(checkpoint).await?;
        if !is_of_this_log && !self.settings.replaced_log {
            within(ANSWER_TIMEOUT, switch.rollback()).await?;
            return Err(RebuildError::OtherLog { position: checkpoint.position });
        }
        let started = Instant::now();
        // What this log does not have is not waited for.
        while is_of_this_log && folding.folder.stored.position < checkpoint.position {
            if started.elapsed() > SWITCH_WITHIN {
                within(ANSWER_TIMEOUT, switch.rollback()).await?;
                return Ok(None);
            }
            self.fold_some(connection, folding, build, checkpoint.position).await?;
            self.finish(connection, folding, build).await?;
        }
        self.accept_quarantine(&mut switch, folding, from).await?;
        let term = within(ANSWER_TIMEOUT, registry::switch(&mut switch, view, from, build)).await?;
        within(ANSWER_TIMEOUT, switch.commit()).await?;
        Ok(Some((from, term)))
    }

    /// Everything that was known of the view's rows is void. The projector that folds the build from now on
    /// says so, too, when it begins.
    async fn say_reset(&self, term: u64, position: u64) {
        let client = self.log.client().clone();
        let view = self.definition.name;
        Signaller::new(client.clone(), self.log.namespace(), view, term, position).reset().await;
        // At most once, like all signals.
        let _ = tokio::time::timeout(Duration::from_secs(1), client.flush()).await;
    }
}
