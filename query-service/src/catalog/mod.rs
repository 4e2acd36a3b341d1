//! The catalog: which views there are, what their rows hold, and which queries their indexes serve.
//! It is the database's own: [`load`] reads it from there.

mod describe;
mod index;
mod kind;
mod load;
mod owner;
mod predicate;
mod shape;

use std::{collections::BTreeMap, sync::Arc};

pub use index::{Constant, Function, Index, IndexColumn, Only};
pub use kind::Kind;
pub use load::{LoadError, load};
pub use owner::Owner;
pub use shape::{Asked, Shape, shapes};

/// Every view that can be asked, by its public name.
#[derive(Debug, Default, PartialEq)]
pub struct Catalog {
    pub views: BTreeMap<Arc<str>, Arc<View>>,
}

impl Catalog {
    pub fn view(&self, name: &str) -> Option<&Arc<View>> {
        self.views.get(name)
    }
}

/// One view, in the build that the registry names.
#[derive(Debug, PartialEq)]
pub struct View {
    pub name: Arc<str>,
    pub version: i32,
    /// Every statement checks it: a view that has been switched to another table is never read from the old.
    pub build: i32,
    pub schema: String,
    pub table: String,
    pub columns: Vec<Column>,
    /// The column whose value names a row.
    pub key: ColumnId,
    /// The column that says whose row a row is; without one, only those see rows who may see everybody's.
    pub owner: Option<ColumnId>,
    /// What may be asked of the view, the key's own shape first.
    pub shapes: Vec<Arc<Shape>>,
}

/// The place of a column in its view's `columns`.
pub type ColumnId = usize;

#[derive(Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// The type as Postgres writes it.
    pub type_name: String,
    /// `None`: of a type that cannot be asked by.
    pub kind: Option<Kind>,
    pub nullable: bool,
}

impl Column {
    /// The kind, if Postgres keeps values of it exactly as they are given: neither rounded nor cut.
    pub fn exact_kind(&self) -> Option<Kind> {
        let is_cut = self.type_name.contains('(');
        self.kind.filter(|kind| !is_cut && !matches!(kind, Kind::Numeric | Kind::Timestamp))
    }
}

/// Why a registered view cannot be asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    #[error("the table has no column `{0}`, which the registry names as the key")]
    NoKeyColumn(String),
    #[error(
        "the key `{0}` has no unique index of its own, may be null, or is of a type that cannot be asked by"
    )]
    KeyNotIndexed(String),
    #[error(
        "the table has no column `{0}`, which the registry names as that of the owner, or it rounds or cuts its values"
    )]
    NoOwnerColumn(String),
}

impl View {
    pub fn column(&self, id: ColumnId) -> &Column {
        &self.columns[id]
    }

    pub fn column_named(&self, name: &str) -> Option<ColumnId> {
        self.columns.iter().position(|column| column.name == name)
    }

    pub fn key_column(&self) -> &Column {
        self.column(self.key)
    }

    /// The shape that serves all that is asked; of those that do, the first.
    pub fn shape_for(&self, asked: &Asked<'_>) -> Option<&Arc<Shape>> {
        self.shapes.iter().find(|shape| shape.serves(asked))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn column(name: &str, kind: Option<Kind>, nullable: bool) -> Column {
        Column { name: name.into(), type_name: name.into(), kind, nullable }
    }

    /// id, account_id, status, placed_at, reason (nullable), extra (of a type that cannot be asked by).
    pub fn columns() -> Vec<Column> {
        vec![
            column("id", Some(Kind::Uuid), false),
            column("account_id", Some(Kind::Uuid), false),
            column("status", Some(Kind::Text), false),
            column("placed_at", Some(Kind::Timestamp), false),
            column("reason", Some(Kind::Text), true),
            column("extra", None, false),
        ]
    }
    pub const ID: ColumnId = 0;
    pub const ACCOUNT: ColumnId = 1;
    pub const STATUS: ColumnId = 2;
    pub const PLACED: ColumnId = 3;
    pub const REASON: ColumnId = 4;
    pub const EXTRA: ColumnId = 5;

    /// Plain and ascending.
    pub fn index(columns: &[ColumnId]) -> Index {
        let plain = |&column| IndexColumn { column, ..IndexColumn::default() };
        Index { columns: columns.iter().map(plain).collect(), ..Index::default() }
    }

    /// A view with these indexes beside that of its key.
    pub fn view_with(indexes: impl IntoIterator<Item = Index>) -> View {
        let by_key = Index { unique: true, ..index(&[ID]) };
        let all: Vec<Index> = std::iter::once(by_key).chain(indexes).collect();
        let (key, shapes) = shapes(&columns(), "id", &all).expect("the key is indexed");
        View {
            name: "orders".into(),
            version: 1,
            build: 1,
            schema: "public".into(),
            table: "orders_v1".into(),
            columns: columns(),
            key,
            owner: None,
            shapes: shapes.into_iter().map(Arc::new).collect(),
        }
    }

    /// The orders of an account by time; all orders by time; orders by the reason of their cancellation, and
    /// by what it begins with; those that were cancelled by time; and by status, however it is spelled.
    pub fn orders() -> View {
        let cancelled =
            Constant { column: STATUS, value: "cancelled".into(), literal: "'cancelled'::text".into() };
        let mut by_beginning = index(&[REASON, ID]);
        by_beginning.columns[0].collate_c = true;
        by_beginning.columns[0].in_byte_order = true;
        let mut by_lower_status = index(&[STATUS, ID]);
        by_lower_status.columns[0].function = Some(Function::Lower);
        view_with([
            index(&[ACCOUNT, PLACED, ID]),
            index(&[PLACED, ID]),
            index(&[REASON, ID]),
            by_beginning,
            Index { only: Only { equal: vec![cancelled], not_null: vec![] }, ..index(&[PLACED, ID]) },
            by_lower_status,
        ])
    }
}
