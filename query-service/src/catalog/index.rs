//! An index as it stands in the database, as far as a query can rely on it.

use super::ColumnId;

/// A btree index over columns and functions that are known here; what else an index may be is not read.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub columns: Vec<IndexColumn>,
    /// `include (…)`: they can be read from the index, but not asked by.
    pub included: Vec<ColumnId>,
    pub unique: bool,
    pub only: Only,
}

/// How an index holds one of its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexColumn {
    pub column: ColumnId,
    /// The index holds what the function makes of the column.
    pub function: Option<Function>,
    pub descending: bool,
    pub nulls_first: bool,
    /// Compared by the collation "C", which is not the column's own: a query has to say so, too.
    pub collate_c: bool,
    /// Texts are in the order of their bytes, so that those with a prefix are neighbours.
    pub in_byte_order: bool,
}

/// The functions that an index may be asked through: immutable, of one text, and giving their own result
/// again when applied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    Lower,
    Upper,
}

impl Function {
    pub const ALL: [Self; 2] = [Self::Lower, Self::Upper];

    /// In SQL and in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper => "upper",
        }
    }
}

/// Which rows a partial index holds: those with all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    pub equal: Vec<Constant>,
    pub not_null: Vec<ColumnId>,
}

/// A value that a partial index is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    pub column: ColumnId,
    /// As a request's value is spelled after it was read.
    pub value: String,
    /// As Postgres spells it. A statement repeats it, because the planner must see that the index holds
    /// every row that is asked for; a bound value would not tell.
    pub literal: String,
}
