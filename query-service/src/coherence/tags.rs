//! Tags: what an answer depends on. A row has the tag of its key. A list has a tag of the values that it asks for
//! by equality, or else that of the whole view; a changed row touches the tags of all lists that it was in, or is.
//!
//! A tag is a hash. Two that are equal by chance make an answer old too early, never too late.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::LazyLock,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Touched;
use crate::{
    catalog::{ColumnId, Kind, Owner, View},
    query::ListQuery,
};

/// Secret, so that nobody can choose values whose tags share a slot with somebody else's.
static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u64);

impl Tag {
    /// What every change touches.
    const VIEW: Self = Self(0);

    fn of(kind: &str, hash_values: impl FnOnce(&mut foldhash::quality::FoldHasher<'_>)) -> Self {
        let mut hasher = HASHER.build_hasher();
        kind.hash(&mut hasher);
        hash_values(&mut hasher);
        Self(hasher.finish())
    }

    fn of_key(key: &str) -> Self {
        Self::of("key", |hasher| key.hash(hasher))
    }

    fn of_values(values: &[(ColumnId, &str)]) -> Self {
        Self::of("values", |hasher| values.hash(hasher))
    }

    #[cfg(test)]
    pub fn numbered(number: u64) -> Self {
        Self(number)
    }

    /// The place of its stamp among so many, a power of two.
    pub fn slot(self, slots: usize) -> usize {
        debug_assert!(slots.is_power_of_two());
        // The number is only ever cut down to a place.
        self.0 as usize & (slots - 1)
    }
}

/// A row that changed, as a signal tells it.
#[derive(Debug, Deserialize)]
pub struct Change {
    key: String,
    old: Option<Map<String, Value>>,
    new: Option<Map<String, Value>>,
}

/// How the tags of one view are made.
#[derive(Debug)]
pub struct Tags {
    /// Sets of columns by which lists can be asked for, each in order; the largest first.
    sets: Vec<Vec<ColumnId>>,
    key: Option<Kind>,
}

impl Tags {
    pub fn of(view: &View) -> Self {
        let exact = |id: &ColumnId| view.column(*id).exact_kind().is_some();
        let mut sets: Vec<Vec<ColumnId>> = view
            .shapes
            .iter()
            .map(|shape| {
                let mut set: Vec<ColumnId> = shape.equal.iter().copied().filter(exact).collect();
                set.sort_unstable();
                set
            })
            .filter(|set| !set.is_empty())
            .collect();
        // Signals tell the values of columns that indexes find rows by, and no others.
        let is_told = |owner: &ColumnId| view.shapes.iter().any(|shape| shape.has(*owner));
        sets.extend(view.owner.filter(|owner| *owner != view.key).filter(is_told).map(|owner| vec![owner]));
        sets.sort_unstable_by_key(|set| (std::cmp::Reverse(set.len()), set.clone()));
        sets.dedup();
        Self { sets, key: view.key_column().exact_kind() }
    }

    /// The tag of one row. What an owner is told depends on all of their rows, and on nobody else's: with the tag of
    /// the row it would leave the cache when that row changes, from which a stranger could tell that it is there.
    pub fn of_row(&self, key: &str, owner: Option<&Owner>) -> Tag {
        match owner {
            None => self.key.map_or(Tag::VIEW, |_| Tag::of_key(key)),
            Some(owner) if self.sets.contains(&vec![owner.column]) => {
                Tag::of_values(&[(owner.column, &owner.value)])
            }
            Some(_) => Tag::VIEW,
        }
    }

    /// The tags of a list: it is as it was while none of them is touched.
    pub fn of_list(&self, view: &View, query: &ListQuery) -> Vec<Tag> {
        if let Some(keys) = &query.keys {
            let owner = query.owner_beside_keys(view);
            return keys.iter().map(|key| self.of_row(key, owner)).collect();
        }
        let (any, values) = query.any.as_ref().map_or((None, &[][..]), |(id, any)| (Some(*id), any));
        let equal = |column: ColumnId| query.equal.iter().find(|(id, _)| *id == column);
        let is_named = |column: &ColumnId| any == Some(*column) || equal(*column).is_some();
        let Some(set) = self.sets.iter().find(|set| set.iter().all(is_named)) else { return vec![Tag::VIEW] };
        // What is not asked for by equality is the column of the `[in]`.
        let with = |one: &str| {
            let values = set.iter().map(|&id| (id, equal(id).map_or(one, |(_, value)| value.as_str())));
            Tag::of_values(&values.collect::<Vec<_>>())
        };
        match any.filter(|any| set.contains(any)) {
            Some(_) => values.iter().map(|one| with(one)).collect(),
            None => vec![with("")],
        }
    }

    /// What changes touch; everything, if a value by which lists can be asked for is not told.
    pub fn touched(&self, view: &View, changes: &[Change]) -> Touched {
        if changes.is_empty() {
            return Touched::Tags(vec![]);
        }
        let mut tags = vec![Tag::VIEW];
        for change in changes {
            if self.touch(view, change, &mut tags).is_none() {
                return Touched::Everything;
            }
        }
        Touched::Tags(tags)
    }

    /// `None`: it cannot be told.
    fn touch(&self, view: &View, change: &Change, tags: &mut Vec<Tag>) -> Option<()> {
        if let Some(kind) = self.key {
            tags.push(Tag::of_key(&kind.parse(&change.key)?));
        }
        for row in change.old.iter().chain(&change.new) {
            for set in &self.sets {
                let values = set.iter().map(|&id| told(view, id, row)).collect::<Option<Vec<_>>>()?;
                // Nothing equals null, so no list has a row for it.
                if let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() {
                    let values: Vec<(ColumnId, &str)> =
                        set.iter().copied().zip(values.iter().map(String::as_str)).collect();
                    tags.push(Tag::of_values(&values));
                }
            }
        }
        Some(())
    }
}

/// The value of a column in the spelling of queries; `Some(None)` for null, `None` if it is not told.
fn told(view: &View, id: ColumnId, row: &Map<String, Value>) -> Option<Option<String>> {
    let column = view.column(id);
    let text = match row.get(&column.name)? {
        Value::Null => return Some(None),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(Some(column.exact_kind()?.parse(&text)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{catalog::tests::orders, parameters::Parameters};

    const ACCOUNT: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";
    const OTHER: &str = "0192d3a4-5b6c-7d8e-9f00-112233445577";

    fn row(account: &str, reason: Value) -> Value {
        json!({"account_id": account, "reason": reason, "status": "placed", "placed_at": "2026-01-01T00:00:00Z"})
    }

    fn touches(change: Value, query: &str) -> bool {
        let (view, tags) = (orders(), Tags::of(&orders()));
        let query =
            Parameters::parse(query).and_then(|parameters| ListQuery::parse(&view, &parameters, None));
        let of_list = tags.of_list(&view, &query.expect("served"));
        let change = serde_json::from_value(change).expect("a change");
        match tags.touched(&view, &[change]) {
            Touched::Everything => true,
            Touched::Tags(touched) => of_list.iter().any(|tag| touched.contains(tag)),
        }
    }

    #[test]
    fn a_new_row_touches_the_lists_that_it_is_in() {
        let new = || json!({"key": ACCOUNT, "old": null, "new": row(ACCOUNT, json!(null))});
        assert!(touches(new(), &format!("account_id={ACCOUNT}")));
        assert!(touches(new(), &format!("account_id={ACCOUNT}&placed_at[gte]=2026-01-01&sort=-placed_at")));
        assert!(touches(new(), "sort=-placed_at"));
        assert!(touches(new(), &format!("id={ACCOUNT}")));
    }

    #[test]
    fn it_leaves_the_others_alone() {
        let new = || json!({"key": ACCOUNT, "old": null, "new": row(ACCOUNT, json!(null))});
        assert!(!touches(new(), &format!("account_id={OTHER}")));
        assert!(!touches(new(), "reason=late"));
        assert!(!touches(new(), &format!("id={OTHER}")));
    }

    #[test]
    fn a_row_that_moves_touches_where_it_was_and_where_it_is() {
        let moved =
            || json!({"key": ACCOUNT, "old": row(ACCOUNT, json!("late")), "new": row(OTHER, json!("lost"))});
        for query in [format!("account_id={ACCOUNT}"), format!("account_id={OTHER}")] {
            assert!(touches(moved(), &query));
        }
        assert!(touches(moved(), "reason=late") && touches(moved(), "reason=lost"));
        assert!(!touches(moved(), "reason=broken"));
    }

    #[test]
    fn a_list_of_any_of_some_values_is_touched_by_each_of_them() {
        let new = |reason| json!({"key": ACCOUNT, "old": null, "new": row(ACCOUNT, json!(reason))});
        assert!(touches(new("late"), "reason[in]=late,lost") && touches(new("lost"), "reason[in]=late,lost"));
        assert!(!touches(new("broken"), "reason[in]=late,lost"));
    }

    /// Whether what `subject` was told of the row with the key `ACCOUNT` is made old.
    fn touches_row_of(subject: &str, change: Value) -> bool {
        let view = View { owner: Some(1), ..orders() };
        let tags = Tags::of(&view);
        let of_row = tags.of_row(ACCOUNT, view.owner_of(subject).as_ref());
        let change = serde_json::from_value(change).expect("a change");
        let Touched::Tags(touched) = tags.touched(&view, &[change]) else { return true };
        touched.contains(&of_row)
    }

    #[test]
    fn what_an_owner_is_told_is_touched_by_their_own_rows_and_by_nobody_elses() {
        let changed =
            |old, new| json!({"key": ACCOUNT, "old": row(old, json!(null)), "new": row(new, json!(null))});
        for (old, new) in [(ACCOUNT, ACCOUNT), (ACCOUNT, OTHER), (OTHER, ACCOUNT)] {
            assert!(touches_row_of(ACCOUNT, changed(old, new)), "{old} {new}");
        }
        assert!(!touches_row_of(OTHER, changed(ACCOUNT, ACCOUNT)));
    }

    #[test]
    fn where_signals_do_not_tell_the_owner_any_change_may_be_of_theirs() {
        let view = View { owner: Some(1), ..crate::catalog::tests::view_with([]) };
        let tags = Tags::of(&view);
        assert_eq!(tags.of_row(ACCOUNT, view.owner_of(OTHER).as_ref()), Tag::VIEW);
    }

    #[test]
    fn values_are_compared_in_one_spelling() {
        let new = json!({"key": ACCOUNT, "old": null, "new": row(&ACCOUNT.to_uppercase(), json!(null))});
        assert!(touches(new, &format!("account_id={ACCOUNT}")));
    }

    #[test]
    fn a_value_that_is_not_told_may_be_any() {
        let change = json!({"key": ACCOUNT, "old": null, "new": {"account_id": OTHER}});
        assert!(touches(change, &format!("account_id={ACCOUNT}")));
    }
}
