//! What a view is: a row and two pure functions. The engines that run any view know it by its
//! [`Definition`] and keep its rows in a [`Fold`].

mod fold;
mod left_out;
mod lines;

use crate::{Kind, Recorded};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use fold::{Change, Encoded, Fold};
pub use left_out::{LeftOut, aggregate_key};
pub use lines::Lines;

/// A table of rows folded from events, by two pure functions.
pub trait View: 'static {
    /// Names the view everywhere: in URLs, as its table, its checkpoint and its metrics.
    const NAME: &'static str;
    /// The column that names a row.
    const KEY: &'static str;
    /// A change of what the functions do, or of the row, is a new version: it is folded anew from the whole
    /// log, beside the one in use, and takes its place.
    const VERSION: i32;
    /// Whose events the view is folded from. Those of others are not even decoded.
    const AGGREGATES: &'static [Kind];
    /// The columns by which [`Touch::Rows`] finds rows. Each needs an index that begins with it.
    const FOUND_BY: &'static [&'static str] = &[];

    /// One row: its fields are the table's columns.
    type Row: Clone + PartialEq + Send + Sync + Serialize + DeserializeOwned + JsonSchema;

    /// The rows that the event touches.
    fn touches(recorded: &Recorded) -> Touch;

    /// The row after the event; `None` where there is no row. An event that it cannot apply makes it panic
    /// (an overflow does): the row then stays as it is until a person has looked at it, all others go on.
    fn apply(row: Option<Self::Row>, recorded: &Recorded) -> Option<Self::Row>;
}

/// Which rows of a view an event touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    Nothing,
    /// The row with this key, whether there is one or not.
    Row(String),
    /// All rows that there are with this value in a column of [`View::FOUND_BY`].
    Rows {
        column: &'static str,
        value: String,
    },
}

/// A view without its row type, for engines that run any view.
#[derive(Clone, Copy)]
pub struct Definition {
    pub name: &'static str,
    pub key: &'static str,
    pub version: i32,
    pub aggregates: &'static [Kind],
    pub found_by: &'static [&'static str],
    pub touches: fn(&Recorded) -> Touch,
    /// A row, described; the generator collects the schemas of the values in it.
    pub row: fn(&mut SchemaGenerator) -> Schema,
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
            aggregates: V::AGGREGATES,
            found_by: V::FOUND_BY,
            touches: V::touches,
            row: <V::Row as JsonSchema>::json_schema,
            fold: fold::new::<V>,
            normalise: |row| serde_json::to_value(serde_json::from_str::<V::Row>(row)?),
        }
    }
}
