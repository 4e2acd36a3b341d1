//! What was asked, read from the path of the request.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use domain::view::Definition;
use serde_json::{Map, Value};

/// Rows of a list when the request does not say, as long as it does not name more keys.
const LIMIT_DEFAULT: usize = 20;

/// A query whose answer can be told from the fold of its view.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Where the view is in [`domain::views::ALL`].
    pub view: usize,
    pub asks: Asks,
    /// All, if none are named.
    fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Asks {
    /// For the row with this key.
    Row(String),
    List(List),
}

/// For rows in an order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    equal: Vec<(String, String)>,
    keys: Option<BTreeSet<String>>,
    /// By the key, if nothing else.
    pub sort: Option<String>,
    pub descending: bool,
    pub limit: usize,
}

impl Question {
    /// From a path such as `/accounts/018f…?fields=email` or `/orders?account_id=018f…&sort=-placed_at&limit=5`.
    /// Cursors, ranges, and whatever has to be escaped, are more than is known here, and an error.
    pub fn parse(path: &str) -> Result<Self> {
        Self::read(path).with_context(|| format!("what `{path}` asks for cannot be told"))
    }

    fn read(path: &str) -> Result<Self> {
        ensure!(!path.contains(['%', '+']), "it has escapes");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = path.strip_prefix('/').context("it does not begin with a slash")?;
        let (name, key) = path.split_once('/').map_or((path, None), |(name, key)| (name, Some(key)));
        let view = domain::views::ALL.iter().position(|view| view.name == name).context("no such view")?;
        let (mut fields, mut list) = (Vec::new(), List::default());
        let mut limit = None;
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "fields" => fields = value.split(',').map(str::to_owned).collect(),
                "limit" => limit = Some(value.parse().context("the limit is no number")?),
                "sort" => {
                    list.descending = value.starts_with('-');
                    list.sort = Some(value.trim_start_matches('-').to_owned());
                }
                "cursor" => bail!("it has a cursor"),
                name if name.contains('[') => bail!("it has a range"),
                name if name == domain::views::ALL[view].key => {
                    list.keys = Some(value.split(',').map(str::to_owned).collect());
                }
                name => list.equal.push((name.to_owned(), value.to_owned())),
            }
        }
        let named = list.keys.as_ref().map_or(0, BTreeSet::len);
        list.limit = limit.unwrap_or_else(|| LIMIT_DEFAULT.max(named));
        let asks = match key {
            Some(key) => Asks::Row(key.to_owned()),
            None => Asks::List(list),
        };
        Ok(Self { view, asks, fields })
    }

    pub fn definition(&self) -> &'static Definition {
        &domain::views::ALL[self.view]
    }

    /// Of a row, what is asked for.
    pub fn narrow(&self, row: &Value) -> Value {
        if self.fields.is_empty() {
            return row.clone();
        }
        let field = |name: &String| Some((name.clone(), row.get(name)?.clone()));
        Value::Object(self.fields.iter().filter_map(field).collect::<Map<_, _>>())
    }
}

impl List {
    /// Whether a row is in it.
    pub fn has(&self, key: &str, row: &Value) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains(key))
            && self.equal.iter().all(|(column, value)| match row.get(column) {
                Some(Value::String(text)) => text == value,
                Some(Value::Number(number)) => {
                    number.as_i64().is_some_and(|number| value.parse() == Ok(number))
                }
                _ => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_has_the_rows_with_its_values() {
        let question = Question::parse("/accounts?status=active&sort=-created_at&limit=5&fields=id").unwrap();
        let Asks::List(list) = &question.asks else { panic!("{question:?}") };
        assert_eq!((list.sort.as_deref(), list.descending, list.limit), (Some("created_at"), true, 5));
        let row = json!({"id": "a", "status": "active", "revision": 7});
        assert!(list.has("a", &row));
        assert!(!list.has("a", &json!({"id": "a", "status": "closed"})));
        assert_eq!(question.narrow(&row), json!({"id": "a"}));
    }

    #[test]
    fn a_list_of_keys_has_only_these() {
        let Asks::List(list) = Question::parse("/orders?id=a,b").unwrap().asks else { panic!("no list") };
        assert_eq!((list.has("b", &json!({})), list.has("c", &json!({})), list.limit), (true, false, 20));
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for path in ["/nothing", "/orders?cursor=x", "/orders?placed_at[gte]=1997", "/orders?reason=a%20b"] {
            assert!(Question::parse(path).is_err(), "{path}");
        }
    }
}
