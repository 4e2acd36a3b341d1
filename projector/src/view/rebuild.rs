//! Folds a view anew beside the build that is read, and puts the new build in its place.
//!
//! Nothing is lost if it ends between any two steps: what is done stands in the database, and whoever comes
//! next goes on from there.

mod choice;
mod indexes;
mod switch;

use std::time::Duration;

use domain::view::Definition;
use event_log::{EventLog, FollowError};
use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};

use super::{
    Task,
    batch::UnknownEvents,
    database::{self, ANSWER_TIMEOUT, within},
    error::{ViewError, chain},
    folding::{self, Folding, Gather},
    verify::{Verify, verify},
};
use crate::{
    quarantine,
    registry::{self, Build},
};

/// Nobody reads the build yet, so that a transaction may take its time.
const GATHER: Gather =
    Gather { within: Duration::from_secs(5), patience: Duration::from_millis(20), until: u64::MAX };
/// The end of the log is as good as reached, which moves on all the time: so much is folded in some hundredths of a
/// second.
const EVENTS_LEFT_MAX: u64 = 4_000;
/// How often is looked whether somebody else, who builds it, has got on.
const STANDBY_RETRY: Duration = Duration::from_millis(500);

/// What a rebuild is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Folding,
    Indexing,
    Verifying,
    Switching,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Progress {
    pub build: i32,
    pub phase: Phase,
    pub position: u64,
    /// The end of the log when it was last looked at.
    pub head: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuilt {
    /// The build that is read now, and the one that was.
    pub to: i32,
    pub from: i32,
    pub position: u64,
    /// Events that were folded for it by this call.
    pub events: u64,
    pub took: Duration,
    /// Rows that were compared with the log, and equal.
    pub rows_verified: u64,
    /// Keys in quarantine in the new build.
    pub quarantined: usize,
}

/// Which build is to take the place of the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A new one, or one that was begun; never used before.
    New,
    /// The last one that was used before, of this program's version.
    Former,
}

/// How a view is rebuilt.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub which: Which,
    pub unknown_events: UnknownEvents,
    pub verify: Verify,
    /// Switch even if more keys are in quarantine than in the build in use.
    pub accept_quarantine: bool,
    /// Switch even if the build in use was folded from another log, or from more of it than there is now, so that
    /// readers see the view go back.
    pub replaced_log: bool,
    /// Memory for rows that have yet to be written: the more, the faster rows are folded that change often.
    pub bytes_max: usize,
}

/// Memory that rebuilds at the same time share, as far as it can be shared.
pub const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What it takes to rebuild a view.
pub struct Rebuild<'a> {
    pub options: PgConnectOptions,
    pub log: &'a EventLog,
    pub definition: &'static Definition,
    pub settings: Settings,
    /// Names this program to people.
    pub me: &'a str,
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// What a projector does whose program has a newer version of a view than the one that is read.
pub async fn by_service(task: &Task, mut connection: PgConnection) -> Result<(), ViewError> {
    let status = task.status.clone();
    let rebuild = Rebuild {
        options: task.options.clone(),
        log: &task.log,
        definition: task.definition,
        settings: Settings {
            which: Which::New,
            unknown_events: task.unknown_events,
            verify: Verify::Sample,
            accept_quarantine: false,
            replaced_log: false,
            // All views may be rebuilt at once.
            bytes_max: BYTES_MAX / 4,
        },
        me: &task.me,
        progress: &move |progress| status.rebuilding(progress),
    };
    loop {
        let in_use = within(ANSWER_TIMEOUT, registry::in_use(&mut connection, task.definition.name)).await?;
        if in_use.version >= task.definition.version {
            return Ok(());
        }
        match rebuild.run(&mut connection).await {
            Ok(rebuilt) => {
                let Rebuilt { to, from, position, events, took, .. } = rebuilt;
                let view = task.definition.name;
                tracing::info!(view, to, from, position, events, ?took, "switched to the new build");
                return Ok(());
            }
            Err(RebuildError::Locked { .. }) => {
                task.status.standby(in_use.checkpoint.position, in_use.folded_by);
                sleep(STANDBY_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("build {build} is being folded by {by}; stop that first, or wait for it")]
    Locked { build: i32, by: String },
    #[error("version {in_use} of the view is in use, this program folds version {ours}")]
    OtherVersion { in_use: i32, ours: i32 },
    #[error("no build of version {ours} was used before; there is nothing to go back to")]
    NoFormer { ours: i32 },
    #[error(
        "{new} keys are in quarantine in the new build, {old} in the one in use: see `projector quarantine list`; \
         correct or skip their events and run this again, or accept them with --accept-quarantine"
    )]
    Quarantine { new: usize, old: usize },
    #[error(
        "the build in use was folded from another log, or from more of it than there is now, up to position {position}; \
         if this log is to stay, fold the view anew from it with --replaced-log: readers will see it go back"
    )]
    OtherLog { position: u64 },
    #[error("the new build could not catch up with the one in use; run this again")]
    TooFast,
    #[error(transparent)]
    View(#[from] ViewError),
}

impl From<RebuildError> for ViewError {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::View(error) => error,
            RebuildError::TooFast => Self::Fenced,
            other => Self::NotSwitched(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for RebuildError {
    fn from(error: sqlx::Error) -> Self {
        Self::View(error.into())
    }
}

impl Rebuild<'_> {
    /// Folds, verifies and switches. `connection` is this session's own, and keeps the build's lock.
    pub async fn run(&self, connection: &mut PgConnection) -> Result<Rebuilt, RebuildError> {
        let started = Instant::now();
        database::be_patient(connection).await?;
        let build = self.find_build(connection).await?;
        let mut folding = self.open(connection, &build, 0).await?;
        let begun_at = folding.folder.stored.position;
        self.leave_out_indexes(connection, &build).await?;
        self.fold(connection, &mut folding, &build).await?;
        // From here on there is little to be folded, and memory is of use elsewhere.
        folding.folder.forget_rows();
        self.make_indexes(connection, &mut folding, &build).await?;
        self.fold(connection, &mut folding, &build).await?;
        let in_use = within(ANSWER_TIMEOUT, registry::in_use(connection, self.definition.name)).await?;
        // Before the log is read once more, for nothing.
        self.accept_quarantine(connection, &folding, in_use.number).await?;
        let rows_verified = match self.settings.which {
            Which::New => self.verify(connection, &folding).await?,
            Which::Former => 0,
        };
        let from = self.switch(connection, &mut folding, &build).await?;
        Ok(Rebuilt {
            to: build.number,
            from,
            position: folding.folder.stored.position,
            events: folding.folder.stored.position - begun_at,
            took: started.elapsed(),
            rows_verified,
            quarantined: folding.folder.held.len(),
        })
    }

    /// An error if the new build has more keys in quarantine than another, and that is not accepted.
    async fn accept_quarantine(
        &self,
        connection: &mut PgConnection,
        folding: &Folding,
        in_use: i32,
    ) -> Result<(), RebuildError> {
        let old = quarantine::keys(connection, self.definition.name, in_use);
        let old = within(ANSWER_TIMEOUT, old).await?.len();
        let new = folding.folder.held.len();
        if new > old && !self.settings.accept_quarantine {
            return Err(RebuildError::Quarantine { new, old });
        }
        Ok(())
    }

    async fn open(
        &self,
        connection: &mut PgConnection,
        build: &Build,
        careful_until: u64,
    ) -> Result<Folding, ViewError> {
        let view = self.definition.name;
        let build = within(ANSWER_TIMEOUT, registry::find(connection, view, build.number)).await?;
        let Settings { unknown_events, bytes_max, .. } = self.settings;
        let settings = folding::Settings { unknown_events, bytes_max, careful_until };
        let mut folding = Folding::open(connection, self.log, self.definition, &build, settings).await?;
        let mut writer = database::connect(&self.options, &format!("{view}, writing behind")).await?;
        database::be_patient(&mut writer).await?;
        folding.write_behind(writer);
        Ok(folding)
    }

    fn progress(&self, phase: Phase, build: i32, position: u64, head: u64) {
        (self.progress)(Progress { build, phase, position, head });
    }

    async fn head(&self) -> Result<u64, ViewError> {
        let head = self.log.head().await;
        Ok(head.map_err(|error| FollowError::Unavailable(error.to_string()))?.position)
    }

    /// Folds to where the end of the log is now, or nearly.
    async fn fold(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<(), ViewError> {
        loop {
            let head = self.head().await?;
            loop {
                let position = folding.folder.position();
                self.progress(Phase::Folding, build.number, position, head.max(position));
                if position < head {
                    self.fold_some(connection, folding, build, head).await?;
                } else if self.finish(connection, folding, build).await? {
                    break;
                }
            }
            if self.head().await? <= folding.folder.stored.position + EVENTS_LEFT_MAX {
                return Ok(());
            }
        }
    }

    /// Folds one transaction's worth.
    async fn fold_some(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
        until: u64,
    ) -> Result<(), ViewError> {
        let batch = folding.next().await?;
        let gather = Gather { until, ..GATHER };
        let result = folding.commit(connection, batch, gather).await.map(|_| ());
        self.go_on(connection, folding, build, result).await?;
        Ok(())
    }

    /// Waits until all is written that was folded; says whether it is.
    async fn finish(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<bool, ViewError> {
        let result = folding.finish().await;
        self.go_on(connection, folding, build, result).await
    }

    /// If an event may be to blame, goes back to what is stored, and on from there with care; then this is false.
    async fn go_on(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
        result: Result<(), ViewError>,
    ) -> Result<bool, ViewError> {
        match result {
            Ok(()) => Ok(true),
            Err(error)
                if error.may_be_poison() && folding.careful_until() > folding.folder.stored.position =>
            {
                tracing::warn!(view = self.definition.name, error = chain(error), "folding with care");
                *folding = self.open(connection, build, folding.careful_until()).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn verify(&self, connection: &mut PgConnection, folding: &Folding) -> Result<u64, ViewError> {
        let (build, head) = (folding.folder.build, folding.folder.stored.position);
        let progress = |position| self.progress(Phase::Verifying, build, position, head);
        verify(
            connection,
            &folding.folder,
            self.log,
            self.settings.unknown_events,
            self.settings.verify,
            progress,
        )
        .await
    }
}
