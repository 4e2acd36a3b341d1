//! A query, read from a request and checked against the catalog: from here on it is known to be served by
//! an index and to hold only values of the right kind.

mod count;
mod filters;
mod owned;
mod refusal;
mod values;

use std::sync::Arc;

use service_kit::Problem;

pub use self::{
    count::{COUNT_MAX, Count},
    filters::OPERATORS,
};
use self::{
    refusal::{accepted_names, unknown_parameter},
    values::{all_fields, parse_count, parse_fields, parse_limit, parse_sort, parse_value},
};
use crate::{
    catalog::{Asked, ColumnId, Function, Owner, Shape, View},
    cursor,
    parameters::Parameters,
};

/// Rows of a list when the request does not say.
pub const LIMIT_DEFAULT: u32 = 20;
/// Rows of a list at the most: about what fits into an answer that a client still reads at once.
pub const LIMIT_MAX: u32 = 1_000;
/// Keys that one request may name.
pub const KEYS_MAX: usize = 100;
/// Values that one `[in]` may name: the index is read once for each.
pub const ANY_MAX: usize = 20;

/// `GET /{view}/{key}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowQuery {
    pub key: String,
    pub fields: Vec<ColumnId>,
    /// There is only a row if it is theirs.
    pub owner: Option<Owner>,
    /// Whatever the view holds, there is no such row for this caller.
    pub is_nothing: bool,
}

/// `GET /{view}`
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only the rows with these keys.
    pub keys: Option<Vec<String>>,
    pub equal: Vec<(ColumnId, String)>,
    /// Any of these values: two at the least, sorted, none twice.
    pub any: Option<(ColumnId, Vec<String>)>,
    /// Equality on what functions make of columns. The value may be spelled in any way that the function
    /// makes the same of.
    pub functions: Vec<(Function, ColumnId, String)>,
    /// All on the first column of `order`.
    pub bounds: Vec<Bound>,
    /// Ends in the key.
    pub order: Vec<ColumnId>,
    pub descending: bool,
    pub fields: Vec<ColumnId>,
    pub limit: u32,
    /// Whether the rows that fit are counted, up to [`COUNT_MAX`].
    pub count: bool,
    /// Values of the columns of `order` where the page before ended.
    pub after: Option<Vec<String>>,
    /// How the index that serves it holds its columns.
    pub shape: Arc<Shape>,
    /// Only their rows.
    pub owner: Option<Owner>,
    /// Whatever the view holds, no row fits.
    pub is_nothing: bool,
    /// The column whose prefix gave bounds.
    prefix: Option<ColumnId>,
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
    /// For a caller who may see only the rows of `owner`, if there is one.
    pub fn parse(
        view: &View,
        key: &str,
        parameters: &Parameters,
        owner: Option<&Owner>,
    ) -> Result<Self, Problem> {
        let mut fields = all_fields(view);
        for (name, value) in parameters.iter() {
            match name {
                "fields" => fields = parse_fields(view, value)?,
                _ => return Err(unknown_parameter(name, vec!["fields".into()])),
            }
        }
        let key = parse_value(view, view.key, &view.key_column().name, key)?;
        let mut query = Self { key, fields, owner: None, is_nothing: false };
        if let Some(owner) = owner {
            query.confine(view, owner);
        }
        Ok(query)
    }
}

impl ListQuery {
    /// For a caller who may see only the rows of `owner`, if there is one.
    pub fn parse(view: &View, parameters: &Parameters, owner: Option<&Owner>) -> Result<Self, Problem> {
        let mut query = Self { fields: all_fields(view), ..Self::default() };
        let (mut limit, mut sort, mut cursor) = (None, vec![], None);
        for (name, value) in parameters.iter() {
            match name {
                "fields" => query.fields = parse_fields(view, value)?,
                "limit" => limit = Some(parse_limit(value)?),
                "sort" => (sort, query.descending) = parse_sort(view, value)?,
                "count" => query.count = parse_count(value)?,
                "cursor" => cursor = Some(value),
                _ => query.add_filter(view, name, value)?,
            }
        }
        if let Some(owner) = owner {
            query.confine(view, owner);
        }
        query.choose_index(view, &sort)?;
        // Who names 50 keys expects 50 rows.
        let default = query.keys.as_ref().map_or(LIMIT_DEFAULT, |keys| LIMIT_DEFAULT.max(keys.len() as u32));
        query.limit = limit.unwrap_or(default);
        query.after =
            cursor.map(|text| cursor::decode(text, &query.identity(view), query.order.len())).transpose()?;
        Ok(query)
    }

    /// Takes the order from the index that serves the filters and the sort; there must be one.
    fn choose_index(&mut self, view: &View, sort: &[ColumnId]) -> Result<(), Problem> {
        let found = match &self.keys {
            Some(_) if self.has_filters_beside_keys() => None,
            Some(_) => view.shapes.first().filter(|by_key| by_key.order.starts_with(sort)),
            None => self.asked(sort).and_then(|asked| view.shape_for(&asked)),
        };
        self.shape = found.cloned().ok_or_else(|| self.not_indexed(view, sort))?;
        self.order.clone_from(&self.shape.order);
        Ok(())
    }

    fn has_filters_beside_keys(&self) -> bool {
        !(self.equal.is_empty() && self.any.is_none() && self.functions.is_empty() && self.bounds.is_empty())
    }

    /// `None`: more than any index can do.
    fn asked<'a>(&'a self, sort: &'a [ColumnId]) -> Option<Asked<'a>> {
        let range = self.bounds.first().map(|bound| bound.column);
        let equal = self.equal.iter().map(|(column, value)| (*column, Some(value.as_str())));
        let one_range = self.bounds.iter().all(|bound| Some(bound.column) == range);
        one_range.then(|| Asked {
            equal: equal.chain(self.any.iter().map(|(column, _)| (*column, None))).collect(),
            functions: self.functions.iter().map(|&(function, column, _)| (function, column)).collect(),
            range,
            by_prefix: self.prefix.is_some(),
            sort,
        })
    }

    /// What makes this query another query to a cursor. The fields, the limit and whether rows are counted
    /// may change from page to page.
    pub fn identity(&self, view: &View) -> String {
        let name = |id: ColumnId| view.column(id).name.as_str();
        let mut equal: Vec<_> = self.equal.iter().map(|(column, value)| (name(*column), value)).collect();
        equal.sort();
        let any = self.any.as_ref().map(|(column, values)| (name(*column), values));
        let mut functions: Vec<_> = self
            .functions
            .iter()
            .map(|(function, column, value)| (function.name(), name(*column), value))
            .collect();
        functions.sort();
        let mut bounds = self.bounds.clone();
        bounds.sort();
        let bounds: Vec<_> = bounds
            .iter()
            .map(|bound| (name(bound.column), bound.comparison.operator(), &bound.value))
            .collect();
        // Another collation is another order.
        let order: Vec<_> =
            self.shape.order_path().iter().map(|part| (name(part.column), part.collate_c)).collect();
        let query =
            serde_json::json!([view.name, self.keys, equal, any, functions, bounds, order, self.descending]);
        match &self.owner {
            None => query.to_string(),
            // Of another caller it is another query, even where the same rows would fit.
            Some(owner) => serde_json::json!([query, name(owner.column), owner.value]).to_string(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use arbtest::arbitrary::{self, Unstructured};

    use super::*;
    use crate::catalog::tests::orders;

    pub const ACCOUNT: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    pub fn list(query: &str) -> Result<ListQuery, Problem> {
        ListQuery::parse(&orders(), &Parameters::parse(query)?, None)
    }

    pub fn names(columns: &[ColumnId]) -> Vec<String> {
        columns.iter().map(|&column| orders().column(column).name.clone()).collect()
    }

    pub fn refusal(query: &str) -> &'static str {
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
        for query in ["status=placed", "extra=1", "sort=status", "sort=placed_at,-id", "sort=reason"] {
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
            "count=yes",
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
        let row = |query| RowQuery::parse(&orders(), ACCOUNT, &Parameters::parse(query)?, None);
        assert_eq!(names(&row("fields=status").expect("served").fields), ["status"]);
        assert_eq!(row("limit=1").expect_err("refused").kind().code, "unknown-field");
    }

    /// Parameters such as queries are made of, some of them twice, and values of every kind, good and bad.
    fn any_parameters(chance: &mut Unstructured<'_>) -> arbitrary::Result<Vec<String>> {
        const NAMES: [&str; 14] = [
            "id",
            "account_id",
            "status",
            "placed_at",
            "reason",
            "extra",
            "lower(status)",
            "upper(status)",
            "fields",
            "limit",
            "sort",
            "count",
            "cursor",
            "nothing",
        ];
        const VALUES: [&str; 16] = [
            ACCOUNT,
            "placed",
            "late",
            "2026-01-01",
            "2026-01-01T00:00:00%2B01:00",
            "-placed_at",
            "placed_at,id",
            "status,id",
            "id,-status",
            "20",
            "1000",
            "99999999999999999999",
            "true",
            "",
            "%F4%8F%BF%BF",
            "'%22$1;drop--",
        ];
        let mut parameters = Vec::new();
        for _ in 0..chance.int_in_range(0..=4)? {
            let operator = match chance.ratio(1, 2)? {
                true => "".to_owned(),
                false => format!("[{}]", chance.choose(&OPERATORS)?.0),
            };
            let mut values = Vec::new();
            for _ in 0..chance.int_in_range(1..=3)? {
                values.push(*chance.choose(&VALUES)?);
            }
            parameters.push(format!("{}{operator}={}", chance.choose(&NAMES)?, values.join(",")));
        }
        Ok(parameters)
    }

    #[test]
    fn whatever_is_asked_is_refused_or_served_by_an_index_and_no_value_becomes_sql() {
        let mut served = 0;
        arbtest::arbtest(|chance| {
            let mut parameters = any_parameters(chance)?;
            let Ok(query) = list(&parameters.join("&")) else { return Ok(()) };
            served += 1;
            let view = orders();
            assert!((1..=LIMIT_MAX).contains(&query.limit), "{parameters:?}");
            assert_eq!(query.order.last(), Some(&view.key), "{parameters:?}");
            assert!(query.bounds.iter().all(|bound| bound.column == query.order[0]), "{parameters:?}");
            assert!(query.keys.as_ref().is_none_or(|keys| (1..=KEYS_MAX).contains(&keys.len())));
            let statement = crate::sql::list(&view, &query);
            assert!(!statement.sql.contains("drop"), "{}", statement.sql);
            // The order of parameters means nothing.
            parameters.reverse();
            let again = list(&parameters.join("&")).expect("served as before");
            assert_eq!(again.identity(&view), query.identity(&view), "{parameters:?}");
            Ok(())
        });
        assert!(served > 0);
    }
}
