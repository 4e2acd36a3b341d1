//! Folds a view anew beside the build that is read, and puts the new build in its place.
//!
//! Nothing is lost if it ends between any two steps: what is done stands in the database, and whoever comes
//! next goes on from there.

use std::time::Duration;

use domain::view::Definition;
use event_log::EventLog;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
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
    registry::{self, Build},
    signal::Signaller,
};

/// Nobody reads the build yet, so that a transaction may take its time; the end of the log is believed to be
/// reached when nothing more comes for a moment.
const GATHER: Gather = Gather { within: Duration::from_secs(5), patience: Duration::from_millis(20) };
/// The build that is read stands still for so long at the most while the new one takes in the last events.
const SWITCH_WITHIN: Duration = Duration::from_secs(5);
const SWITCH_ATTEMPTS: u32 = 20;
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
            other => Self::Registry(other.to_string()),
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

    /// The build to be folded, locked.
    async fn find_build(&self, connection: &mut PgConnection) -> Result<Build, RebuildError> {
        let (view, ours) = (self.definition.name, self.definition.version);
        let in_use = within(ANSWER_TIMEOUT, registry::in_use(connection, view)).await?;
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
        Ok(within(ANSWER_TIMEOUT, registry::find(connection, view, build.number)).await?)
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
        Ok(head.map_err(|error| event_log::FollowError::Unavailable(error.to_string()))?.position)
    }

    /// Drops the indexes of a table that is still empty, and notes how to make them.
    async fn leave_out_indexes(&self, connection: &mut PgConnection, build: &Build) -> Result<(), ViewError> {
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
                 join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                 where i.indrelid = to_regclass(quote_ident($1)) and not a.attname = any($2)
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

    async fn make_indexes(
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

    /// Folds up to the end of the log.
    async fn fold(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<(), ViewError> {
        let mut head = self.head().await?;
        loop {
            let position = folding.folder.position();
            if position >= head {
                head = self.head().await?;
            }
            self.progress(Phase::Folding, build.number, position, head.max(position));
            if position < head {
                self.fold_some(connection, folding, build).await?;
            } else if self.finish(connection, folding, build).await? {
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
    ) -> Result<(), ViewError> {
        let batch = folding.next().await?;
        let result = folding.commit(connection, batch, GATHER).await.map(|_| ());
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

    /// Puts the build in the place of the one that is read, which stands still meanwhile, so that no reader
    /// ever sees the view go back. Gives the number of the build that was read before.
    async fn switch(
        &self,
        connection: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<i32, RebuildError> {
        let mut freezer = database::connect(&self.options, "switch").await?;
        for _ in 0..SWITCH_ATTEMPTS {
            let position = folding.folder.stored.position;
            self.progress(Phase::Switching, build.number, position, position);
            if let Some(from) = self.try_switch(connection, &mut freezer, folding, build).await? {
                self.say_reset(folding.folder.stored.position).await;
                return Ok(from);
            }
            // The one that is read had gone far ahead.
            self.fold(connection, folding, build).await?;
        }
        Err(RebuildError::TooFast)
    }

    async fn try_switch(
        &self,
        connection: &mut PgConnection,
        freezer: &mut PgConnection,
        folding: &mut Folding,
        build: &Build,
    ) -> Result<Option<i32>, RebuildError> {
        let view = self.definition.name;
        let mut switch = within(ANSWER_TIMEOUT, freezer.begin()).await?;
        // Who folds the build in use waits here before its next transaction.
        let frozen = sqlx::query_as(
            "select c.build, c.position from checkpoints c join views v on v.name = c.view and v.build = c.build
             where c.view = $1 for update of c",
        );
        let frozen: Option<(i32, i64)> =
            within(ANSWER_TIMEOUT, frozen.bind(view).fetch_optional(&mut *switch)).await?;
        let Some((from, position)) = frozen else { return Ok(None) };
        let started = Instant::now();
        while folding.folder.stored.position < position.cast_unsigned() {
            if started.elapsed() > SWITCH_WITHIN {
                within(ANSWER_TIMEOUT, switch.rollback()).await?;
                return Ok(None);
            }
            self.fold_some(connection, folding, build).await?;
            self.finish(connection, folding, build).await?;
        }
        let old = sqlx::query_scalar("select count(*) from quarantine where view = $1 and build = $2");
        let old: i64 = within(ANSWER_TIMEOUT, old.bind(view).bind(from).fetch_one(&mut *switch)).await?;
        let (new, old) = (folding.folder.held.len(), usize::try_from(old).unwrap_or_default());
        if new > old && !self.settings.accept_quarantine {
            within(ANSWER_TIMEOUT, switch.rollback()).await?;
            return Err(RebuildError::Quarantine { new, old });
        }
        within(ANSWER_TIMEOUT, registry::switch(&mut switch, view, from, build)).await?;
        within(ANSWER_TIMEOUT, switch.commit()).await?;
        Ok(Some(from))
    }

    /// Everything that was known of the view's rows is void. The projector that folds the build from now on
    /// says so, too, when it begins.
    async fn say_reset(&self, position: u64) {
        let client = self.log.client().clone();
        Signaller::new(client.clone(), self.log.namespace(), self.definition.name, position).reset().await;
        // At most once, like all signals.
        let _ = tokio::time::timeout(Duration::from_secs(1), client.flush()).await;
    }
}
