//! A query, read from a request and checked against the catalog: from here on it is known to be served by
//! an index and to hold only values of the right kind.

mod values;

use service_kit::Problem;

use self::values::{all_fields, parse_fields, parse_keys, parse_limit, parse_sort, parse_value};
use crate::{
    catalog::{ColumnId, View},
    cursor,
    parameters::Parameters,
    problems::{INVALID_VALUE, NOT_INDEXED, UNKNOWN_FIELD},
};

/// Rows of a list when the request does not say.
pub const LIMIT_DEFAULT: u32 = 20;
/// Rows of a list at the most: about what fits into an answer that a client still reads at once.
pub const LIMIT_MAX: u32 = 1_000;
/// Keys that one request may name.
pub const KEYS_MAX: usize = 100;

/// `GET /{view}/{key}`
#[derive(Debug, PartialEq, Eq)]
pub struct RowQuery {
    pub key: String,
    pub fields: Vec<ColumnId>,
}

/// `GET /{view}`
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only the rows with these keys.
    pub keys: Option<Vec<String>>,
    pub equal: Vec<(ColumnId, String)>,
    pub bounds: Vec<Bound>,
    /// Ends in the key.
    pub order: Vec<ColumnId>,
    pub descending: bool,
    pub fields: Vec<ColumnId>,
    pub limit: u32,
    /// Values of the columns of `order` where the page before ended.
    pub after: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    pub column: ColumnId,
    pub comparison: Comparison,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    AtLeast,
    Above,
    AtMost,
    Below,
}

impl Comparison {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "gte" => Self::AtLeast,
            "gt" => Self::Above,
            "lte" => Self::AtMost,
            "lt" => Self::Below,
            _ => return None,
        })
    }

    pub fn operator(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }

    fn is_lower(self) -> bool {
        matches!(self, Self::AtLeast | Self::Above)
    }
}

impl RowQuery {
    pub fn parse(view: &View, key: &str, parameters: &Parameters) -> Result<Self, Problem> {
        let mut fields = all_fields(view);
        for (name, value) in parameters.iter() {
            match name {
                "fields" => fields = parse_fields(view, value)?,
                _ => return Err(unknown_parameter(name, vec!["fields"])),
            }
        }
        Ok(Self { key: parse_value(view, view.key, &view.key_column().name, key)?, fields })
    }
}

impl ListQuery {
    pub fn parse(view: &View, parameters: &Parameters) -> Result<Self, Problem> {
        let mut query = Self { fields: all_fields(view), ..Self::default() };
        let (mut limit, mut sort, mut cursor) = (None, vec![], None);
        for (name, value) in parameters.iter() {
            match name {
                "fields" => query.fields = parse_fields(view, value)?,
                "limit" => limit = Some(parse_limit(value)?),
                "sort" => (sort, query.descending) = parse_sort(view, value)?,
                "cursor" => cursor = Some(value),
                _ => query.add_filter(view, name, value)?,
            }
        }
        query.choose_order(view, &sort)?;
        // Who names 50 keys expects 50 rows.
        let default = query.keys.as_ref().map_or(LIMIT_DEFAULT, |keys| LIMIT_DEFAULT.max(keys.len() as u32));
        query.limit = limit.unwrap_or(default);
        query.after =
            cursor.map(|text| cursor::decode(text, &query.identity(view), query.order.len())).transpose()?;
        Ok(query)
    }

    fn add_filter(&mut self, view: &View, name: &str, value: &str) -> Result<(), Problem> {
        let (column_name, comparison) = split_filter(name);
        let id =
            view.column_named(column_name).ok_or_else(|| unknown_parameter(name, accepted_names(view)))?;
        let Some(comparison) = comparison else {
            if id == view.key {
                self.keys = Some(parse_keys(view, value)?);
            } else {
                self.equal.push((id, parse_value(view, id, name, value)?));
            }
            return Ok(());
        };
        let comparison =
            Comparison::parse(comparison).ok_or_else(|| unknown_parameter(name, accepted_names(view)))?;
        let value = parse_value(view, id, name, value)?;
        let twin =
            |bound: &&Bound| bound.column == id && bound.comparison.is_lower() == comparison.is_lower();
        if self.bounds.iter().any(|bound| twin(&bound)) {
            let detail = format!("`{name}` bounds `{column_name}` on a side that is bounded already.");
            let accepted = "at most one of [gte] and [gt], and at most one of [lte] and [lt]";
            return Err(Problem::new(INVALID_VALUE, detail).field(name).accepted(accepted));
        }
        self.bounds.push(Bound { column: id, comparison, value });
        Ok(())
    }

    /// Takes the order from the index that serves the filters and the sort; there must be one.
    fn choose_order(&mut self, view: &View, sort: &[ColumnId]) -> Result<(), Problem> {
        let range = self.bounds.first().map(|bound| bound.column);
        let one_range = self.bounds.iter().all(|bound| Some(bound.column) == range);
        let order = if self.keys.is_some() {
            let alone = self.equal.is_empty() && self.bounds.is_empty();
            (alone && [view.key].starts_with(sort)).then(|| vec![view.key])
        } else {
            let equal: Vec<ColumnId> = self.equal.iter().map(|(column, _)| *column).collect();
            let shape = one_range.then(|| view.shape_for(&equal, range, sort)).flatten();
            shape.map(|shape| shape.order.clone())
        };
        self.order = order.ok_or_else(|| self.not_indexed(view, sort))?;
        Ok(())
    }

    /// What makes this query another query to a cursor. The fields and the limit may change from page to page.
    pub fn identity(&self, view: &View) -> String {
        let name = |id: ColumnId| view.column(id).name.as_str();
        let mut equal: Vec<_> = self.equal.iter().map(|(column, value)| (name(*column), value)).collect();
        equal.sort();
        let mut bounds = self.bounds.clone();
        bounds.sort();
        let bounds: Vec<_> = bounds
            .iter()
            .map(|bound| (name(bound.column), bound.comparison.operator(), &bound.value))
            .collect();
        let order: Vec<_> = self.order.iter().map(|&column| name(column)).collect();
        serde_json::json!([view.name, self.keys, equal, bounds, order, self.descending]).to_string()
    }

    fn not_indexed(&self, view: &View, sort: &[ColumnId]) -> Problem {
        let name = |id: ColumnId| view.column(id).name.as_str();
        let mut asked: Vec<(ColumnId, String)> = vec![];
        let equal = self.keys.iter().map(|_| view.key).chain(self.equal.iter().map(|(column, _)| *column));
        asked.extend(equal.map(|column| (column, format!("equality on `{}`", name(column)))));
        asked.extend(self.bounds.iter().map(|bound| {
            let (column, operator) = (bound.column, bound.comparison.operator());
            (column, format!("a bound (`{operator}`) on `{}`", name(column)))
        }));
        asked.extend(sort.iter().map(|&column| (column, format!("an order by `{}`", name(column)))));
        // Name the column that no index helps with; else it is the combination that none serves.
        let helped = |column: ColumnId| view.shapes.iter().any(|shape| shape.has(column));
        let blamed = asked.iter().find(|(column, _)| !helped(*column)).or(asked.last());
        let words: Vec<&str> = asked.iter().map(|(_, words)| words.as_str()).collect();
        let detail = format!("No index of `{}` serves {}.", view.name, words.join(", "));
        let problem = Problem::new(NOT_INDEXED, detail).accepted(view.served());
        blamed.map(|(column, _)| problem.clone().field(name(*column))).unwrap_or(problem)
    }
}

/// `placed_at[gte]` is the column `placed_at` and the comparison `gte`.
fn split_filter(name: &str) -> (&str, Option<&str>) {
    match name.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((column, comparison)) => (column, Some(comparison)),
        None => (name, None),
    }
}

/// Every parameter that a list takes.
fn accepted_names(view: &View) -> Vec<&str> {
    let mut names = vec!["fields", "sort", "limit", "cursor"];
    for id in view.shapes.iter().flat_map(|shape| shape.equal.iter().chain(&shape.order)) {
        let name = view.column(*id).name.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn unknown_parameter(name: &str, accepted: Vec<&str>) -> Problem {
    let bounds = if name.contains('[') { " A bound is [gte], [gt], [lte] or [lt] on a column." } else { "" };
    let detail = format!("`{name}` is not a parameter here; expected {}.{bounds}", accepted.join(", "));
    Problem::new(UNKNOWN_FIELD, detail).field(name).accepted(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::orders;

    const ACCOUNT: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    fn list(query: &str) -> Result<ListQuery, Problem> {
        ListQuery::parse(&orders(), &Parameters::parse(query)?)
    }

    fn names(columns: &[ColumnId]) -> Vec<String> {
        columns.iter().map(|&column| orders().column(column).name.clone()).collect()
    }

    fn refusal(query: &str) -> &'static str {
        list(query).expect_err("not served").kind().code
    }

    #[test]
    fn a_list_without_anything_is_the_first_twenty_rows_by_key() {
        let query = list("").expect("served");
        assert_eq!(names(&query.order), ["id"]);
        assert_eq!((query.limit, query.descending, query.fields.len()), (20, false, 6));
    }

    #[test]
    fn the_orders_of_an_account_newest_first() {
        let query = list(&format!("sort=-placed_at&account_id={ACCOUNT}&limit=1000&fields=status,id"));
        let query = query.expect("served");
        assert_eq!(names(&query.order), ["placed_at", "id"]);
        assert_eq!(names(&query.fields), ["status", "id"]);
        assert_eq!((query.limit, query.descending), (1_000, true));
        assert_eq!(query.equal, [(1, ACCOUNT.to_owned())]);
    }

    #[test]
    fn a_range_may_have_two_ends_on_one_column_but_each_only_once() {
        assert_eq!(
            list("placed_at[gte]=2026-01-01&placed_at[lt]=2026-02-01").expect("served").bounds.len(),
            2
        );
        assert_eq!(refusal("placed_at[gte]=2026-01-01&placed_at[gt]=2026-01-01"), "invalid-value");
        assert_eq!(refusal(&format!("placed_at[gte]=2026-01-01&account_id[lt]={ACCOUNT}")), "not-indexed");
    }

    #[test]
    fn keys_are_a_set_that_stands_alone() {
        let other = ACCOUNT.replace('6', "7");
        let query = list(&format!("id={other},{ACCOUNT},{ACCOUNT}")).expect("served");
        assert_eq!(query.keys, Some(vec![ACCOUNT.to_owned(), other]));
        assert_eq!(refusal(&format!("id={ACCOUNT}&account_id={ACCOUNT}")), "not-indexed");
        assert_eq!(refusal(&format!("id={ACCOUNT}&sort=placed_at")), "not-indexed");
    }

    #[test]
    fn whoever_names_many_keys_gets_many_rows() {
        let keys: Vec<String> = (0..KEYS_MAX as u128).map(|n| uuid::Uuid::from_u128(n).to_string()).collect();
        assert_eq!(list(&format!("id={}", keys.join(","))).expect("served").limit as usize, KEYS_MAX);
        assert_eq!(refusal(&format!("id={ACCOUNT},{}", keys.join(","))), "invalid-value");
    }

    #[test]
    fn what_no_index_serves_is_refused() {
        for query in ["status=placed", "extra=1", "sort=status", "sort=placed_at,-id", "reason[gte]=a"] {
            assert_eq!(refusal(query), "not-indexed", "{query}");
        }
        assert_eq!(names(&list("reason=late").expect("equality is served").order), ["id"]);
    }

    #[test]
    fn names_that_are_not_known_are_refused() {
        for query in ["nope=1", "nope[gte]=1", "placed_at[like]=1", "fields=id,nope", "sort=-nope", "id[=1"] {
            assert_eq!(refusal(query), "unknown-field", "{query}");
        }
    }

    #[test]
    fn values_that_cannot_be_read_are_refused() {
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "limit=",
            "account_id=1",
            "id=",
            "fields=",
            "fields=id,id",
        ] {
            assert_eq!(refusal(query), "invalid-value", "{query}");
        }
    }

    #[test]
    fn a_cursor_holds_for_its_filters_and_sort_whatever_the_fields_and_the_limit() {
        let first = list("placed_at[gte]=2026-01-01&sort=placed_at").expect("served");
        let place = vec!["2026-01-02 00:00:00+00".to_owned(), ACCOUNT.to_owned()];
        let cursor = cursor::encode(&place, &first.identity(&orders()));
        let same =
            format!("fields=id&limit=3&sort=placed_at&placed_at[gte]=2026-01-01T00:00:00Z&cursor={cursor}");
        assert_eq!(list(&same).expect("the same query").after, Some(place));
        for other in
            ["sort=placed_at", "placed_at[gt]=2026-01-01", "placed_at[gte]=2026-01-01&sort=-placed_at"]
        {
            assert_eq!(refusal(&format!("{other}&cursor={cursor}")), "invalid-cursor", "{other}");
        }
    }

    #[test]
    fn a_row_takes_fields_and_nothing_else() {
        let row = |query| RowQuery::parse(&orders(), ACCOUNT, &Parameters::parse(query)?);
        assert_eq!(names(&row("fields=status").expect("served").fields), ["status"]);
        assert_eq!(row("limit=1").expect_err("refused").kind().code, "unknown-field");
    }
}
