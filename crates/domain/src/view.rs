//! What a view is, and the fold that turns events into its rows.

use std::collections::HashMap;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{Event, Timestamp};

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The number of the event in the log.
    pub position: u64,
    /// When it was decided.
    pub time: Timestamp,
    /// The aggregate's id.
    pub id: Uuid,
    pub event: Event,
}

/// A table of rows folded from events, by two pure functions.
pub trait View: 'static {
    /// Names the view everywhere: in URLs, as its table, its checkpoint and its metrics.
    const NAME: &'static str;
    /// The column that names a row.
    const KEY: &'static str;
    /// A change of what the functions do is a new version, which is folded anew from the whole log.
    const VERSION: i32;

    /// One row: its fields are the table's columns.
    type Row: Clone + PartialEq + Send + Serialize + DeserializeOwned;

    /// The key of the row that the event touches, if it touches one.
    fn touches(recorded: &Recorded) -> Option<String>;

    /// The row after the event; `None` where there is no row.
    fn apply(row: Option<Self::Row>, recorded: &Recorded) -> Option<Self::Row>;
}

/// A view without its row type, for engines that run any view.
#[derive(Clone, Copy)]
pub struct Definition {
    pub name: &'static str,
    pub key: &'static str,
    pub version: i32,
    pub touches: fn(&Recorded) -> Option<String>,
    /// A fold in which no row is known yet.
    pub fold: fn() -> Box<dyn Fold>,
    /// A row as it stands in the database, in the form that a fold gives: two spellings of one value, such
    /// as of a timestamp, become one.
    pub normalise: fn(&str) -> Result<Value, serde_json::Error>,
}

impl Definition {
    pub const fn of<V: View>() -> Self {
        Self {
            name: V::NAME,
            key: V::KEY,
            version: V::VERSION,
            touches: V::touches,
            fold: || Box::new(Rows::<V> { rows: HashMap::new() }),
            normalise: |row| serde_json::to_value(serde_json::from_str::<V::Row>(row)?),
        }
    }
}

/// Rows of one view in memory, while events are applied to them.
pub trait Fold: Send {
    /// Makes a stored row known, before any event is applied to its key. A key that was never loaded has
    /// no row.
    fn load(&mut self, key: String, row: &str) -> Result<(), serde_json::Error>;

    fn apply(&mut self, recorded: &Recorded);

    /// The rows that are not what they were when they were loaded, in the order of their keys.
    fn changes(&self) -> Result<Vec<Change>, serde_json::Error>;
}

/// A row before and after a fold.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

struct Rows<V: View> {
    rows: HashMap<String, Row<V::Row>>,
}

struct Row<R> {
    before: Option<R>,
    after: Option<R>,
}

impl<V: View> Fold for Rows<V> {
    fn load(&mut self, key: String, row: &str) -> Result<(), serde_json::Error> {
        let row: V::Row = serde_json::from_str(row)?;
        self.rows.insert(key, Row { before: Some(row.clone()), after: Some(row) });
        Ok(())
    }

    fn apply(&mut self, recorded: &Recorded) {
        let Some(key) = V::touches(recorded) else { return };
        let row = self.rows.entry(key).or_insert(Row { before: None, after: None });
        row.after = V::apply(row.after.take(), recorded);
    }

    fn changes(&self) -> Result<Vec<Change>, serde_json::Error> {
        let changed = self.rows.iter().filter(|(_, row)| row.before != row.after);
        let mut changes = changed
            .map(|(key, row)| {
                Ok(Change { key: key.clone(), before: to_value(&row.before)?, after: to_value(&row.after)? })
            })
            .collect::<Result<Vec<_>, serde_json::Error>>()?;
        // One order of keys for every writer, so that two of them could never lock rows crosswise.
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(changes)
    }
}

fn to_value<R: Serialize>(row: &Option<R>) -> Result<Option<Value>, serde_json::Error> {
    row.as_ref().map(serde_json::to_value).transpose()
}
