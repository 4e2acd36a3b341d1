//! Filters: `column=value`, `column[operator]=value`, `function(column)=value`.

use service_kit::Problem;

use super::{
    ANY_MAX, Bound, Comparison, ListQuery, accepted_names,
    refusal::unknown_operator,
    unknown_parameter,
    values::{parse_keys, parse_value, parse_values},
};
use crate::{
    catalog::{ColumnId, Function, Kind, View},
    problems::{INVALID_VALUE, invalid_value},
};

/// What may stand in brackets behind a column's name, and what it means.
pub const OPERATORS: [(&str, &str); 6] = [
    ("gte", "at least"),
    ("gt", "above"),
    ("lte", "at most"),
    ("lt", "below"),
    ("in", "any of several values separated by commas"),
    ("prefix", "begins with"),
];

impl ListQuery {
    pub(super) fn add_filter(&mut self, view: &View, name: &str, value: &str) -> Result<(), Problem> {
        let (subject, operator) = split_filter(name);
        if let Some((function, column)) = function_of(view, subject).filter(|_| operator.is_none()) {
            self.functions.push((function, column, parse_value(view, column, name, value)?));
            return Ok(());
        }
        let id = view.column_named(subject).ok_or_else(|| unknown_parameter(name, accepted_names(view)))?;
        match operator {
            None | Some("in") if id == view.key => self.add_keys(view, name, value),
            None => {
                self.equal.push((id, parse_value(view, id, name, value)?));
                Ok(())
            }
            Some("in") => self.add_any(view, id, name, value),
            Some("prefix") => self.add_prefix(view, id, name, value),
            Some(operator) => {
                let comparison = comparison(operator).ok_or_else(|| unknown_operator(name, operator))?;
                self.add_bound(
                    name,
                    Bound { column: id, comparison, value: parse_value(view, id, name, value)? },
                )
            }
        }
    }

    fn add_keys(&mut self, view: &View, name: &str, text: &str) -> Result<(), Problem> {
        if self.keys.is_some() {
            let detail = format!("`{name}` names keys, which are named already; name all of them once.");
            return Err(Problem::new(INVALID_VALUE, detail).field(name).accepted("the keys once"));
        }
        self.keys = Some(parse_keys(view, text)?);
        Ok(())
    }

    /// Any of one value is that value.
    fn add_any(&mut self, view: &View, id: ColumnId, name: &str, text: &str) -> Result<(), Problem> {
        let mut values = parse_values(view, id, name, text, ANY_MAX)?;
        if values.len() == 1 {
            self.equal.extend(values.pop().map(|value| (id, value)));
            return Ok(());
        }
        if self.any.is_some() {
            let detail = format!("`{name}` is a second column with `[in]`; an index serves one.");
            return Err(Problem::new(INVALID_VALUE, detail).field(name).accepted("[in] on one column"));
        }
        self.any = Some((id, values));
        Ok(())
    }

    /// The texts with a prefix are those from itself to the first text that is after all of them.
    fn add_prefix(&mut self, view: &View, id: ColumnId, name: &str, prefix: &str) -> Result<(), Problem> {
        let accepted = "one character or more that a text begins with";
        if view.column(id).kind != Some(Kind::Text) || prefix.is_empty() {
            return Err(invalid_value(name, prefix, accepted));
        }
        let prefix = parse_value(view, id, name, prefix)?;
        let end = after_prefix(&prefix);
        self.prefix = Some(id);
        self.add_bound(name, Bound { column: id, comparison: Comparison::AtLeast, value: prefix })?;
        end.map_or(Ok(()), |value| {
            self.add_bound(name, Bound { column: id, comparison: Comparison::Below, value })
        })
    }

    fn add_bound(&mut self, name: &str, bound: Bound) -> Result<(), Problem> {
        let is_twin = |other: &Bound| {
            other.column == bound.column && other.comparison.is_lower() == bound.comparison.is_lower()
        };
        if self.bounds.iter().any(is_twin) {
            let detail = format!("`{name}` bounds its column on a side that is bounded already.");
            let accepted = "at most one of [gte] and [gt], and at most one of [lte] and [lt]; [prefix] alone";
            return Err(Problem::new(INVALID_VALUE, detail).field(name).accepted(accepted));
        }
        self.bounds.push(bound);
        Ok(())
    }
}

/// The least text, in the order of bytes in UTF-8, that is greater than every text with the prefix. UTF-8
/// sorts as its code points do, so it is the prefix with its last one raised; one that is the last of all
/// is dropped, and the one before it raised. `None`: nothing is greater.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // A range of `char` leaves out what is none (the surrogates).
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "gte" => Comparison::AtLeast,
        "gt" => Comparison::Above,
        "lte" => Comparison::AtMost,
        "lt" => Comparison::Below,
        _ => return None,
    })
}

/// `placed_at[gte]` is the column `placed_at` and the operator `gte`.
fn split_filter(name: &str) -> (&str, Option<&str>) {
    match name.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((column, operator)) => (column, Some(operator)),
        None => (name, None),
    }
}

/// `lower(email)`
fn function_of(view: &View, text: &str) -> Option<(Function, ColumnId)> {
    let (name, column) = text.strip_suffix(')')?.split_once('(')?;
    let function = Function::ALL.into_iter().find(|function| function.name() == name)?;
    Some((function, view.column_named(column)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::{ACCOUNT, list, names, refusal};

    #[test]
    fn a_prefix_ends_before_the_text_with_its_last_character_raised() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("ab", Some("ac")),
            ("z", Some("{")),
            ("\u{7f}", Some("\u{80}")),
            ("é", Some("ê")),
            ("\u{7ff}", Some("\u{800}")),
            // Between these two lie the surrogates, which no text holds.
            ("\u{d7ff}", Some("\u{e000}")),
            ("\u{ffff}", Some("\u{10000}")),
            ("a\u{10ffff}", Some("b")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    #[test]
    fn in_the_order_of_bytes_all_texts_with_a_prefix_lie_before_its_end_and_nothing_else_does() {
        let pieces = ["a", "b", "\u{7f}", "é", "\u{d7ff}", "\u{e000}", "\u{ffff}", "🦀", "\u{10ffff}"];
        let pairs = pieces.iter().flat_map(|one| pieces.iter().map(move |other| format!("{one}{other}")));
        let texts: Vec<String> = pieces.iter().map(|&piece| piece.to_owned()).chain(pairs).collect();
        for prefix in &texts {
            let end = after_prefix(prefix);
            for text in &texts {
                let is_within = text >= prefix && end.as_ref().is_none_or(|end| text < end);
                assert_eq!(is_within, text.starts_with(prefix.as_str()), "{prefix:?} {text:?}");
            }
        }
    }

    #[test]
    fn any_of_several_values_are_a_set_on_one_column() {
        let other = ACCOUNT.replace('6', "7");
        let query = list(&format!("account_id[in]={other},{ACCOUNT},{other}&sort=-placed_at"));
        let query = query.expect("served");
        assert_eq!(query.any, Some((1, vec![ACCOUNT.to_owned(), other.clone()])));
        assert_eq!((query.equal, names(&query.order)), (vec![], vec!["placed_at".into(), "id".into()]));
        assert_eq!(refusal(&format!("status[in]=a,b&account_id[in]={ACCOUNT},{other}")), "invalid-value");
        assert_eq!(refusal("status[in]=a,b"), "not-indexed");
        assert_eq!(refusal("account_id[in]="), "invalid-value");
        let many: Vec<String> = (0..=ANY_MAX as u128).map(|n| uuid::Uuid::from_u128(n).to_string()).collect();
        assert_eq!(refusal(&format!("account_id[in]={}", many.join(","))), "invalid-value");
        assert!(list(&format!("account_id[in]={}", many[1..].join(","))).is_ok());
    }

    #[test]
    fn any_of_one_value_is_that_value_and_any_key_is_that_key() {
        let one = list(&format!("account_id[in]={ACCOUNT},{ACCOUNT}")).expect("served");
        assert_eq!(one, list(&format!("account_id={ACCOUNT}")).expect("served"));
        let key = list(&format!("id[in]={ACCOUNT}")).expect("served");
        assert_eq!(key, list(&format!("id={ACCOUNT}")).expect("served"));
        assert_eq!(refusal(&format!("id[in]={ACCOUNT}&id={ACCOUNT}")), "invalid-value");
        assert_eq!(refusal(&format!("account_id[in]={ACCOUNT}&account_id={ACCOUNT}")), "not-indexed");
    }

    #[test]
    fn a_prefix_is_a_range_of_texts() {
        let query = list("reason[prefix]=lat&sort=-reason").expect("served");
        let bounds = [(Comparison::AtLeast, "lat"), (Comparison::Below, "lau")];
        let bounds = bounds.map(|(comparison, value)| Bound { column: 4, comparison, value: value.into() });
        assert_eq!(query.bounds, bounds);
        for bad in ["reason[prefix]=", "placed_at[prefix]=2026", "reason[prefix]=a&reason[gte]=a"] {
            assert_eq!(refusal(bad), "invalid-value", "{bad}");
        }
        assert_eq!(refusal("status[prefix]=a"), "not-indexed");
    }

    #[test]
    fn a_partial_index_is_asked_with_its_constant() {
        assert_eq!(
            names(&list("status=cancelled&sort=-placed_at").expect("served").order),
            ["placed_at", "id"]
        );
        assert_eq!(refusal("status=placed&sort=-placed_at"), "not-indexed");
        assert_eq!(refusal("status[in]=cancelled,placed&sort=-placed_at"), "not-indexed");
    }

    #[test]
    fn a_function_of_a_column_is_asked_by_its_value() {
        let query = list("lower(status)=PLACED").expect("served");
        assert_eq!(query.functions, [(Function::Lower, 2, "PLACED".to_owned())]);
        assert_eq!(refusal("upper(status)=PLACED"), "not-indexed");
        for unknown in ["lower(nope)=x", "length(status)=6", "lower(status)[in]=x", "lower(status=x"] {
            assert_eq!(refusal(unknown), "unknown-field", "{unknown}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_asked_and_an_unknown_operator_which_there_are() {
        let detail = |query| list(query).expect_err("not served").detail().to_owned();
        assert_eq!(
            detail("status[in]=a,b&sort=placed_at"),
            "No index of `orders` serves `[in]` on `status`, an order by `placed_at`."
        );
        assert_eq!(
            detail("placed_at[like]=1"),
            "`placed_at[like]` has the unknown operator `[like]`; there are [gte], [gt], [lte], [lt], [in], [prefix]."
        );
    }
}
