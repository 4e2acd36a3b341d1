//! Who owns the rows of a view: the registry names the column that says so.

use super::{Column, ColumnId, Shape, Unservable, View};

/// Whose rows a query sees: those with this value in the view's column for owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub column: ColumnId,
    /// In the one spelling that the column's kind has for it.
    pub value: String,
}

/// The column that the registry names. Its values must be those that were written: a rounded one could be
/// somebody else's.
pub(super) fn owner_column(columns: &[Column], name: &str) -> Result<ColumnId, Unservable> {
    columns
        .iter()
        .position(|column| column.name == name && column.exact_kind().is_some())
        .ok_or_else(|| Unservable::NoOwnerColumn(name.to_owned()))
}

impl View {
    /// The owner that a token's subject stands for. `None`: its rows have no owners, or the subject is no value of
    /// their column. Subjects are compared byte for byte (RFC 7519 §4.1.2), so another spelling of a value is not
    /// that value.
    pub fn owner_of(&self, subject: &str) -> Option<Owner> {
        let column = self.owner?;
        let value = self.column(column).exact_kind()?.parse(subject)?;
        (value == subject).then_some(Owner { column, value })
    }

    /// Whether a list of one owner's rows can be asked for in this shape, the owner being given.
    pub fn serves_owners(&self, shape: &Shape) -> bool {
        let is_constant = |column| shape.only.iter().any(|only| only.column == column);
        self.owner.is_some_and(|owner| shape.equal.contains(&owner) && !is_constant(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{
        Kind,
        tests::{ACCOUNT, orders},
    };

    const ID: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    #[test]
    fn a_subject_owns_rows_if_it_is_a_value_of_their_column_in_its_one_spelling() {
        let owned = View { owner: Some(ACCOUNT), ..orders() };
        assert_eq!(owned.owner_of(ID), Some(Owner { column: ACCOUNT, value: ID.into() }));
        for other in
            [&ID.to_uppercase(), &ID.replace('-', ""), &format!("{{{ID}}}"), "", "' or 1=1 --", "ada"]
        {
            assert_eq!(owned.owner_of(other), None, "{other}");
        }
        assert_eq!(orders().owner_of(ID), None);
    }

    #[test]
    fn a_text_is_owned_by_whoever_it_names_whatever_it_says() {
        let mut view = View { owner: Some(ACCOUNT), ..orders() };
        view.columns[ACCOUNT].kind = Some(Kind::Text);
        for subject in ["ada", "Ada", "' or 1=1 --", "auth0|5f7c8ec7c33c6c004bbafe82"] {
            assert_eq!(view.owner_of(subject).map(|owner| owner.value).as_deref(), Some(subject));
        }
        assert_eq!(view.owner_of("a\0"), None);
    }

    #[test]
    fn a_column_that_rounds_or_is_not_there_names_no_owner() {
        let columns = orders().columns;
        assert_eq!(owner_column(&columns, "account_id"), Ok(ACCOUNT));
        for name in ["placed_at", "extra", "nobody"] {
            assert_eq!(owner_column(&columns, name), Err(Unservable::NoOwnerColumn(name.into())));
        }
    }
}
