//! Folds one build: events into rows in memory, and those into its table.
//!
//! Rows are fetched before the transaction that writes them, and stay in memory between transactions. That is
//! safe, because they only ever change together with the checkpoint, and a transaction begins by moving that
//! from where this folder left it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

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
    write::{self, Move, Writes},
};
use crate::{
    quarantine::{self, Poison},
    registry::Build,
    signal::Change,
};

/// As many rows may be found by their columns for the events of one batch.
const ROWS_FOUND_MAX: usize = 100_000;
/// A signal names as many changed rows at the most; more are signalled as "everything".
const ROWS_SIGNALLED_MAX: usize = 1_000;

pub struct Folder {
    pub definition: &'static Definition,
    pub build: i32,
    pub table: Arc<Table>,
    pub held: Held,
    /// The build must be the one in use when something is committed.
    must_be_in_use: bool,
    /// The known rows take about this much memory at the most; and as much again those that were let go of last.
    bytes_max: usize,
    /// There is no row in the table yet, so none need be looked for.
    is_empty: bool,
    /// Up to where it is committed.
    pub stored: Checkpoint,
    /// Up to where events were taken in; and up to where they were when this was last prepared to be written.
    taken: Checkpoint,
    taken_before: Checkpoint,
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
        bytes_max: usize,
    ) -> Result<Self, ViewError> {
        let open = async {
            let table = Table::load(connection, definition, build).await?;
            Ok::<_, ViewError>(Self {
                definition,
                build: build.number,
                // Rows only ever change together with the checkpoint.
                is_empty: build.checkpoint.frame_sequence == 0,
                table: Arc::new(table),
                bytes_max,
                held: Held::load(connection, definition.name, build.number).await?,
                must_be_in_use: build.is_in_use,
                stored: build.checkpoint,
                taken: build.checkpoint,
                taken_before: build.checkpoint,
                fold: (definition.fold)(),
                poisons: Vec::new(),
                time: None,
            })
        };
        within(ANSWER_TIMEOUT, open).await
    }

    /// Up to where events were taken in.
    pub fn position(&self) -> u64 {
        self.taken.position
    }

    /// Whether it is time to commit.
    pub fn is_full(&self) -> bool {
        self.fold.bytes() >= self.bytes_max
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
        if self.is_empty {
            return Ok(());
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
        let (writes, committed) = self.prepare()?;
        if let Some(writes) = writes {
            writes.commit(connection).await?;
            self.committed(&writes);
        }
        Ok(committed)
    }

    /// What [`Folder::commit`] would write, if anything. More may be taken in while it is being written; but it
    /// must have been written before this is asked again, and after a failure this folder is of no use.
    pub fn prepare(&mut self) -> Result<(Option<Writes>, Committed), ViewError> {
        let changed = self.fold.changed();
        let changes = if changed.len() <= ROWS_SIGNALLED_MAX {
            let rows = self.fold.changes(&changed).map_err(ViewError::NewRow)?;
            Some(rows.iter().map(|row| Change::of(row, &self.table.indexed)).collect())
        } else {
            None
        };
        let committed = Committed { position: self.taken.position, changes, time: self.time };
        if self.taken == self.taken_before {
            return Ok((None, committed));
        }
        let (poisons, counted) = (std::mem::take(&mut self.poisons), self.held.take_counted());
        let checkpoint = self.step_from(self.taken_before, self.taken);
        let writes =
            Writes::of(self.table.clone(), checkpoint, self.fold.as_ref(), &changed, poisons, counted)?;
        self.taken_before = self.taken;
        self.is_empty = self.is_empty && changed.is_empty();
        self.fold.settle(self.bytes_max);
        Ok((Some(writes), committed))
    }

    /// What was prepared is written.
    pub fn committed(&mut self, writes: &Writes) {
        self.say(writes.poisons());
        self.stored = writes.checkpoint.to;
    }

    fn step_from(&self, from: Checkpoint, to: Checkpoint) -> Move {
        let Self { definition, build, must_be_in_use, .. } = *self;
        Move { view: definition.name, build, must_be_in_use, from, to }
    }

    /// Shows that nobody else has folded the build, and keeps others from it until the transaction ends.
    pub async fn stay(&self, transaction: &mut PgConnection) -> Result<(), ViewError> {
        self.step_from(self.stored, self.stored).run(transaction).await
    }

    fn say(&self, poisons: &[Poison]) {
        for Poison { key, position, error, .. } in poisons {
            tracing::error!(view = self.definition.name, key, position, error, "put into quarantine");
        }
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
        self.step_from(self.stored, frame.end).run(&mut transaction).await?;
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
        within(ANSWER_TIMEOUT, quarantine::count(&mut transaction, view, build, &self.held.take_counted()))
            .await?;
        within(ANSWER_TIMEOUT, transaction.commit()).await?;
        self.say(&self.poisons);
        self.poisons.clear();
        (self.taken, self.taken_before, self.stored) = (frame.end, frame.end, frame.end);
        self.is_empty = false;
        self.time = frame.time.or(self.time);
        Ok(Committed { position: self.stored.position, changes: None, time: self.time })
    }

    /// Lets go of all rows in memory. Nothing may be taken in and uncommitted.
    pub fn forget_rows(&mut self) {
        self.fold = (self.definition.fold)();
    }

    /// These rows were written by somebody else, together with the quarantine.
    pub fn written_otherwise(&mut self, keys: impl Iterator<Item = impl AsRef<str>>, held: Held) {
        keys.for_each(|key| self.fold.forget(key.as_ref()));
        self.held = held;
    }
}
