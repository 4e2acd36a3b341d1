//! Folds one build: events into rows in memory, and those into its table.
//!
//! Rows are fetched before the transaction that writes them, and stay in memory between transactions. That is
//! safe, because they only ever change together with the checkpoint, and a transaction begins by moving that
//! from where this folder left it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use domain::{
    Recorded, Timestamp,
    view::{Definition, Fold, Touch},
};
use event_log::Checkpoint;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    batch::{Step, Steps},
    database::{ANSWER_TIMEOUT, within},
    error::{ViewError, panic_message},
    held::Held,
    table::Table,
    write,
};
use crate::{
    quarantine::{self, Poison},
    registry::Build,
    signal::Change,
};

/// A transaction writes about this many rows at the most: a rebuild is faster the more events to a row come
/// together, until they no longer fit into memory.
const ROWS_CHANGED_MAX: usize = 60_000;
/// As many stay in memory after a transaction, so that rows that change again and again need not be fetched.
const ROWS_KEPT_MAX: usize = 20_000;
/// As many rows may be found by their columns for the events of one batch.
const ROWS_FOUND_MAX: usize = 100_000;
/// A signal names as many changed rows at the most; more are signalled as "everything".
const ROWS_SIGNALLED_MAX: usize = 1_000;

pub struct Folder {
    pub definition: &'static Definition,
    pub build: i32,
    pub table: Table,
    pub held: Held,
    /// The build that must be the one in use when something is committed; none if it need not be.
    pub must_be_in_use: bool,
    /// Up to where it is committed.
    pub stored: Checkpoint,
    /// Up to where events were taken in.
    taken: Checkpoint,
    fold: Box<dyn Fold>,
    /// Keys that have gone into quarantine since the last commit.
    poisons: Vec<Poison>,
    /// When the last event that was taken in was decided.
    time: Option<Timestamp>,
}

/// What a transaction has changed.
#[derive(Debug)]
pub struct Committed {
    pub position: u64,
    /// The rows that changed; none if they are too many to be named.
    pub changes: Option<Vec<Change>>,
    /// When its last event was decided.
    pub time: Option<Timestamp>,
}

impl Folder {
    /// For a build that this session has locked.
    pub async fn open(
        connection: &mut PgConnection,
        definition: &'static Definition,
        build: &Build,
    ) -> Result<Self, ViewError> {
        let open = async {
            Ok::<_, ViewError>(Self {
                definition,
                build: build.number,
                table: Table::load(connection, definition, build).await?,
                held: Held::load(connection, definition.name, build.number).await?,
                must_be_in_use: build.is_in_use,
                stored: build.checkpoint,
                taken: build.checkpoint,
                fold: (definition.fold)(),
                poisons: Vec::new(),
                time: None,
            })
        };
        within(ANSWER_TIMEOUT, open).await
    }

    /// Whether it is time to commit.
    pub fn is_full(&self) -> bool {
        self.fold.changed_count() >= ROWS_CHANGED_MAX
    }

    /// Folds frames in memory, fetching the rows that they touch.
    pub async fn take(&mut self, connection: &mut PgConnection, frames: &[Steps]) -> Result<(), ViewError> {
        within(ANSWER_TIMEOUT, self.fetch(connection, frames)).await?;
        for Steps { steps, end, time } in frames {
            for step in steps {
                self.step(step)?;
            }
            self.taken = *end;
            self.time = time.or(self.time);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), ViewError> {
        let (recorded, touch) = match step {
            Step::Apply(recorded, touch) => (recorded, touch),
            Step::Unreadable(unreadable) => {
                if !self.held.leaves_out_unreadable(unreadable) {
                    self.held.put(unreadable.aggregate_key.clone(), unreadable.position)?;
                    self.poisons.push(unreadable.as_ref().into());
                }
                return Ok(());
            }
        };
        if self.held.leaves_out_aggregate(recorded) {
            return Ok(());
        }
        match touch {
            Touch::Nothing => Ok(()),
            Touch::Row(key) => self.apply(key, recorded),
            Touch::Rows { .. } => {
                self.fold.touched(touch).iter().try_for_each(|key| self.apply(key, recorded))
            }
        }
    }

    fn apply(&mut self, key: &str, recorded: &Recorded) -> Result<(), ViewError> {
        if self.held.leaves_out(key, recorded.position) {
            return Ok(());
        }
        catch_unwind(AssertUnwindSafe(|| self.fold.apply_to(key, recorded)))
            .map_err(|panic| ViewError::Apply(panic_message(panic.as_ref())))
    }

    /// Makes the rows known that the frames touch.
    async fn fetch(&mut self, connection: &mut PgConnection, frames: &[Steps]) -> Result<(), ViewError> {
        let touches = || {
            frames.iter().flat_map(|frame| &frame.steps).filter_map(|step| match step {
                Step::Apply(recorded, touch) => Some((recorded.position, touch)),
                Step::Unreadable(_) => None,
            })
        };
        for column in self.definition.found_by {
            let values = touches().filter_map(|(position, touch)| match touch {
                Touch::Rows { column: of, value } if of == column => Some((position, value.as_str())),
                _ => None,
            });
            let (positions, mut values): (Vec<u64>, Vec<&str>) = values.unzip();
            let Some(position) = positions.first() else { continue };
            values.sort_unstable();
            values.dedup();
            let select = AssertSqlSafe(self.table.select_by(column)?);
            let limit = ROWS_FOUND_MAX as i64 + 1;
            let found = sqlx::query_as(select).bind(values).bind(limit).fetch_all(&mut *connection).await?;
            if found.len() > ROWS_FOUND_MAX {
                return Err(ViewError::TooManyRows { position: *position, rows_max: ROWS_FOUND_MAX });
            }
            for (key, row) in found {
                self.load(key, row)?;
            }
        }
        let keys = touches().filter_map(|(_, touch)| match touch {
            Touch::Row(key) if !self.fold.knows(key) => Some(key.as_str()),
            _ => None,
        });
        let mut keys: Vec<&str> = keys.collect();
        if keys.is_empty() {
            return Ok(());
        }
        keys.sort_unstable();
        keys.dedup();
        let select = sqlx::query_as(AssertSqlSafe(self.table.statements.select.as_str()));
        let found: Vec<(String, String)> = select.bind(&keys).fetch_all(connection).await?;
        for (key, row) in found {
            if keys.binary_search(&key.as_str()).is_err() {
                let problem =
                    format!("Postgres writes a key of {} as {key}, its view differently", self.table.name);
                return Err(ViewError::Registry(problem));
            }
            self.load(key, row)?;
        }
        for key in keys {
            if !self.fold.knows(key) {
                // Cannot fail: there is nothing to be read.
                let _ = self.fold.load(key.to_owned(), None);
            }
        }
        Ok(())
    }

    /// A row that is in memory is newer than the one in the table.
    fn load(&mut self, key: String, row: String) -> Result<(), ViewError> {
        if self.fold.knows(&key) {
            return Ok(());
        }
        self.fold.load(key.clone(), Some(&row)).map_err(|source| ViewError::StoredRow { key, source })
    }

    /// Writes what was taken in: rows, quarantine and checkpoint in one transaction.
    pub async fn commit(&mut self, connection: &mut PgConnection) -> Result<Committed, ViewError> {
        let changed = self.fold.changed();
        let changes = if changed.len() <= ROWS_SIGNALLED_MAX {
            let rows = self.fold.changes(&changed).map_err(ViewError::NewRow)?;
            Some(rows.iter().map(|row| Change::of(row, &self.table.indexed)).collect())
        } else {
            None
        };
        if self.taken != self.stored {
            self.write(connection, &changed).await?;
        }
        self.fold.settle(ROWS_KEPT_MAX);
        self.settled();
        Ok(Committed { position: self.stored.position, changes, time: self.time })
    }

    async fn write(&mut self, connection: &mut PgConnection, changed: &[String]) -> Result<(), ViewError> {
        let (view, build) = (self.definition.name, self.build);
        if changed.is_empty() && self.poisons.is_empty() && self.held.has_counted_nothing() {
            return write::move_checkpoint(connection, self, self.taken).await;
        }
        let mut transaction = write::begin(connection).await?;
        // First, because it locks: a projector that lost the view waits here for the one that has it, and
        // leaves before it has touched a row.
        write::move_checkpoint(&mut transaction, self, self.taken).await?;
        write::rows(&mut transaction, &self.table, self.fold.as_ref(), changed).await?;
        for poison in &self.poisons {
            within(ANSWER_TIMEOUT, quarantine::put(&mut transaction, view, build, poison)).await?;
        }
        within(ANSWER_TIMEOUT, self.held.count(&mut transaction, view, build)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await
    }

    /// What was taken in is committed.
    fn settled(&mut self) {
        for Poison { key, position, error, .. } in self.poisons.drain(..) {
            tracing::error!(view = self.definition.name, key, position, error, "put into quarantine");
        }
        self.held.counted();
        self.stored = self.taken;
    }

    /// Folds one frame event by event, each row by itself, and puts those keys into quarantine that cannot be
    /// folded. Slow; for frames that [`Folder::take`] or [`Folder::commit`] could not fold. Nothing else may
    /// be taken in and uncommitted.
    pub async fn fold_singly(
        &mut self,
        connection: &mut PgConnection,
        frame: &Steps,
    ) -> Result<Committed, ViewError> {
        let (view, build) = (self.definition.name, self.build);
        self.fold = (self.definition.fold)();
        self.poisons.clear();
        // What the failed attempt put and counted there is not in the database.
        self.held = within(ANSWER_TIMEOUT, Held::load(connection, view, build)).await?;
        let mut transaction = write::begin(connection).await?;
        write::move_checkpoint(&mut transaction, self, frame.end).await?;
        for step in &frame.steps {
            let Step::Apply(recorded, touch) = step else {
                self.step(step)?;
                continue;
            };
            if self.held.leaves_out_aggregate(recorded) {
                continue;
            }
            let keys = within(ANSWER_TIMEOUT, write::touched(&mut transaction, &self.table, touch)).await?;
            for key in keys {
                if self.held.leaves_out(&key, recorded.position) {
                    continue;
                }
                let fold = (self.definition.fold)();
                let Err(error) =
                    write::apply_singly(&mut transaction, &self.table, fold, &key, recorded).await?
                else {
                    continue;
                };
                self.held.put(key.clone(), recorded.position)?;
                self.poisons.push(Poison::of_row(key, recorded, error));
            }
        }
        for poison in &self.poisons {
            within(ANSWER_TIMEOUT, quarantine::put(&mut transaction, view, build, poison)).await?;
        }
        within(ANSWER_TIMEOUT, self.held.count(&mut transaction, view, build)).await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await?;
        self.taken = frame.end;
        self.time = frame.time.or(self.time);
        self.settled();
        Ok(Committed { position: self.stored.position, changes: None, time: self.time })
    }

    /// These rows were written by somebody else, together with the quarantine.
    pub fn written_otherwise(&mut self, keys: impl Iterator<Item = impl AsRef<str>>, held: Held) {
        keys.for_each(|key| self.fold.forget(key.as_ref()));
        self.held = held;
    }
}
