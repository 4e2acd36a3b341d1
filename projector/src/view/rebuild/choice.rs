//! Which build is folded, and whether what there is of it is of any use.

use event_log::{Checkpoint, FollowError};
use sqlx::PgConnection;

use super::{Rebuild, RebuildError, Which};
use crate::{
    quarantine::{self, Request},
    registry::{self, Build},
    view::{
        ViewError,
        database::{self, ANSWER_TIMEOUT, within},
    },
};

impl Rebuild<'_> {
    /// The build to be folded, locked.
    pub(super) async fn find_build(&self, connection: &mut PgConnection) -> Result<Build, RebuildError> {
        let (view, ours) = (self.definition.name, self.definition.version);
        let in_use = within(ANSWER_TIMEOUT, registry::in_use(connection, view)).await?;
        let is_other_log = !self.is_of_this_log(in_use.checkpoint).await?;
        if is_other_log && !self.settings.replaced_log {
            return Err(RebuildError::OtherLog { position: in_use.checkpoint.position });
        }
        let builds = within(ANSWER_TIMEOUT, registry::builds(connection, view)).await?;
        let mut candidates = builds.into_iter().filter(|build| build.version == ours && !build.is_in_use);
        let build = match self.settings.which {
            Which::Former => {
                let former = candidates.rfind(|build| build.was_used);
                former.ok_or(RebuildError::NoFormer { ours })?
            }
            Which::New if in_use.version > ours => {
                return Err(RebuildError::OtherVersion { in_use: in_use.version, ours });
            }
            Which::New => match candidates.find(|build| !build.was_used) {
                Some(build) => build,
                None => within(ANSWER_TIMEOUT, registry::create(connection, view, ours)).await?,
            },
        };
        if !database::lock_unused(connection, view, build.number).await? {
            let by = build.folded_by.unwrap_or_else(|| "another session".to_owned());
            return Err(RebuildError::Locked { build: build.number, by });
        }
        database::sign(connection, view, build.number, self.me).await?;
        // Read after the lock was taken: nobody else moves it any more.
        let mut build = within(ANSWER_TIMEOUT, registry::find(connection, view, build.number)).await?;
        if build.is_in_use || build.was_used != (self.settings.which == Which::Former) {
            // Somebody else has just finished it.
            return Err(ViewError::Fenced.into());
        }
        if self.settings.which == Which::New {
            let is_useless = !self.is_of_this_log(build.checkpoint).await?;
            if is_other_log && (is_useless || build.checkpoint.position == 0) {
                // In this log, other events are at those positions.
                within(ANSWER_TIMEOUT, quarantine::forget_skipped(connection, view)).await?;
            }
            let was_asked = self.skip_what_was_asked(connection, build.number).await?;
            if is_useless || was_asked {
                within(ANSWER_TIMEOUT, registry::begin_anew(connection, view, &build)).await?;
                build = within(ANSWER_TIMEOUT, registry::find(connection, view, build.number)).await?;
            }
        }
        Ok(build)
    }

    /// Whether the checkpoint stands on a frame of this log.
    pub(super) async fn is_of_this_log(&self, checkpoint: Checkpoint) -> Result<bool, ViewError> {
        match self.log.follow(checkpoint).available().await {
            Ok(_) => Ok(true),
            Err(FollowError::Replaced { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether something was asked for a key in quarantine of a build that no session folds. It is done by folding
    /// the build anew, without the events that are to be skipped.
    async fn skip_what_was_asked(
        &self,
        connection: &mut PgConnection,
        build: i32,
    ) -> Result<bool, ViewError> {
        let view = self.definition.name;
        let requests = within(ANSWER_TIMEOUT, quarantine::requests(connection, view, build)).await?;
        for (key, request) in &requests {
            if let Request::Skip { reason } = request {
                tracing::warn!(view, key, reason, "an event in quarantine is skipped for good");
                within(ANSWER_TIMEOUT, quarantine::skip(connection, view, build, key)).await?;
            }
        }
        Ok(!requests.is_empty())
    }
}
