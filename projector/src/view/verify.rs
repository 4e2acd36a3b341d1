//! Compares a build with an independent fold of the log, before anybody reads it: not through batches, rows
//! loaded and written, but from the first event to the checkpoint, in memory.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use domain::view::{Definition, Fold, Touch, aggregate_key};
use event_log::{Checkpoint, EventLog};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    batch::{Step, UnknownEvents, step},
    database::{ANSWER_TIMEOUT, within},
    error::ViewError,
    folder::Folder,
};

/// How much of a build is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    /// The row count, and about 10,000 rows, or all if there are not more.
    #[default]
    Sample,
    /// All rows, in parts, for each of which the log is read once.
    Full,
    /// Nothing.
    None,
}

/// A part has about this many rows: what is in memory at once.
const ROWS_PER_PART: i64 = 10_000;
/// As many differences are told.
const DIFFERENCES_TOLD: usize = 3;

/// Rows that were compared, or an error that names some that differ.
pub async fn verify(
    connection: &mut PgConnection,
    folder: &Folder,
    log: &EventLog,
    unknown: UnknownEvents,
    how_much: Verify,
    progress: impl Fn(u64),
) -> Result<u64, ViewError> {
    let count = AssertSqlSafe(folder.table.statements.count.as_str());
    let rows: i64 = within(ANSWER_TIMEOUT, sqlx::query_scalar(count).fetch_one(&mut *connection)).await?;
    let parts = (rows / ROWS_PER_PART).max(1);
    let compared = match how_much {
        Verify::None => 0,
        Verify::Sample => 1,
        Verify::Full => parts,
    };
    let mut equal = 0;
    for part in 0..compared {
        let part = Part { number: part, of: parts };
        let found = part.stored(connection, folder).await?;
        let expected = part.folded(folder, log, unknown, &progress).await?;
        let differences: Vec<String> = expected
            .iter()
            .filter(|(key, row)| found.get(*key) != Some(*row))
            .map(|(key, _)| key.clone())
            .chain(found.keys().filter(|key| !expected.contains_key(*key)).cloned())
            .collect();
        if !differences.is_empty() {
            let told: Vec<&str> = differences.iter().take(DIFFERENCES_TOLD).map(String::as_str).collect();
            return Err(ViewError::Differs(format!("{}, among them {}", differences.len(), told.join(", "))));
        }
        equal += expected.len() as u64;
    }
    Ok(equal)
}

type Rows = BTreeMap<String, Value>;

/// One of so many equal parts of all keys.
#[derive(Clone, Copy)]
struct Part {
    number: i64,
    of: i64,
}

impl Part {
    /// The same as the database does in [`super::sql::Statements::select_part`].
    fn has(self, key: &str) -> bool {
        let hash = Sha256::digest(key.as_bytes());
        let first = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        i64::from(first) % self.of == self.number
    }

    async fn stored(self, connection: &mut PgConnection, folder: &Folder) -> Result<Rows, ViewError> {
        let select = sqlx::query_as(AssertSqlSafe(folder.table.statements.select_part.as_str()));
        let rows: Vec<(String, String)> =
            within(ANSWER_TIMEOUT, select.bind(self.of).bind(self.number).fetch_all(connection)).await?;
        let normalise = folder.definition.normalise;
        rows.into_iter()
            .map(|(key, row)| match normalise(&row) {
                Ok(row) => Ok((key, row)),
                Err(source) => Err(ViewError::StoredRow { key, source }),
            })
            .collect()
    }

    async fn folded(
        self,
        folder: &Folder,
        log: &EventLog,
        unknown: UnknownEvents,
        progress: impl Fn(u64),
    ) -> Result<Rows, ViewError> {
        let definition = folder.definition;
        let mut fold = (definition.fold)();
        let mut follower = log.follow(Checkpoint::default());
        let mut position = 0;
        while position < folder.stored.position {
            for frame in follower.next().await? {
                if frame.first > folder.stored.position {
                    break;
                }
                for envelope in &frame.events {
                    if let Some(Step::Apply(recorded, touch)) = step(envelope, definition, unknown) {
                        let aggregate = aggregate_key(recorded.event.kind().name(), recorded.id);
                        if !folder.held.left_out().leaves_out(recorded.position, &aggregate) {
                            self.apply(fold.as_mut(), &recorded, &touch, folder, definition);
                        }
                    }
                }
                position = frame.last();
            }
            progress(position);
        }
        let changes = fold.changes(&fold.changed()).map_err(ViewError::NewRow)?;
        Ok(changes.into_iter().filter_map(|change| Some((change.key, change.after?))).collect())
    }

    fn apply(
        self,
        fold: &mut dyn Fold,
        recorded: &domain::Recorded,
        touch: &Touch,
        folder: &Folder,
        definition: &Definition,
    ) {
        for key in fold.touched(touch) {
            // A key in quarantine is as before its event; a part's rows do not depend on those of others.
            if self.has(&key) && !folder.held.left_out().leaves_out(recorded.position, &key) {
                let applied = catch_unwind(AssertUnwindSafe(|| fold.apply_to(&key, recorded)));
                if applied.is_err() {
                    tracing::warn!(
                        view = definition.name,
                        key,
                        "an event cannot be applied in the comparison"
                    );
                    fold.forget(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_in_one_part() {
        for key in ["a", "00000000-0000-0000-0000-00000000ada0", "1997-01-01"] {
            assert_eq!((0..7).filter(|&number| Part { number, of: 7 }.has(key)).count(), 1);
        }
    }
}
