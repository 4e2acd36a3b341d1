//! The catalog in the words of a client: what `GET /` answers, and what a refused query could have asked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Catalog, ColumnId, Shape, View};
use crate::query::{ANY_MAX, COUNT_MAX, KEYS_MAX, LIMIT_DEFAULT, LIMIT_MAX, OPERATORS};

/// One shape that is served, by the names of its columns.
#[derive(Debug, Serialize)]
pub struct Served<'a> {
    /// Give `name=value` for each of these.
    equal: Vec<String>,
    /// Of those, these may be given `name[in]=value,value` instead, one of them in a query.
    r#in: Vec<&'a str>,
    /// Of those, these have to be given these very values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    only: BTreeMap<&'a str, &'a str>,
    /// This column may be bounded with `[gte]`, `[gt]`, `[lte]`, `[lt]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'a str>,
    /// This column may be asked by `[prefix]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    /// The range or the prefix has to be given: rows in which that column is null have no place in the order.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bound_needed: bool,
    /// The order of the answer; `sort` may name its first columns, each with a `-` for the way back.
    sort: Vec<&'a str>,
    /// When `fields` names only these, the index alone is read.
    covers: Vec<&'a str>,
    example: String,
}

#[derive(Serialize)]
struct Described<'a> {
    path: String,
    key: &'a str,
    columns: Vec<DescribedColumn<'a>>,
    served: Vec<Served<'a>>,
    /// The column that says whose row a row is; null where only those may read who may read everybody's.
    owner: Option<&'a str>,
    /// What may be asked by those who may read their own rows alone; the owner goes without saying.
    served_to_owners: Vec<Served<'a>>,
    limits: Limits,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct DescribedColumn<'a> {
    name: &'a str,
    r#type: &'a str,
    nullable: bool,
    /// What may be given as a value; absent when the column can only be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepts: Option<&'static str>,
    /// What an answer says; absent where it is whatever Postgres makes of the type in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    gives: Option<&'static str>,
}

#[derive(Serialize)]
struct Limits {
    limit_default: u32,
    limit_max: u32,
    keys_max: usize,
    in_max: usize,
    /// Beyond it, `count=true` answers with this number and `"count_is_exact": false`.
    count_max: u32,
}

const LIMITS: Limits = Limits {
    limit_default: LIMIT_DEFAULT,
    limit_max: LIMIT_MAX,
    keys_max: KEYS_MAX,
    in_max: ANY_MAX,
    count_max: COUNT_MAX,
};

/// The answer to `GET /`.
#[derive(Serialize)]
struct DescribedCatalog<'a> {
    views: BTreeMap<&'a str, Described<'a>>,
    parameters: BTreeMap<&'static str, &'static str>,
    operators: BTreeMap<&'static str, &'static str>,
}

/// What a list takes beside filters.
const PARAMETERS: [(&str, &str); 5] = [
    ("fields", "the columns to read, separated by commas"),
    ("sort", "the first columns of the order, separated by commas; all with `-` for the way back"),
    ("limit", "how many rows at the most"),
    ("cursor", "the `next_cursor` of the page before; the filters and the sort stay as they were"),
    (
        "count",
        "`true` adds `count`, the rows that fit on all pages together, counted in the index up to `count_max`, \
         and `count_is_exact`, which is false when there are more",
    ),
];

impl Catalog {
    /// The answer to `GET /`.
    pub fn describe(&self) -> impl Serialize {
        DescribedCatalog {
            views: self.views.iter().map(|(name, view)| (name.as_ref(), view.describe())).collect(),
            parameters: BTreeMap::from(PARAMETERS),
            operators: BTreeMap::from(OPERATORS),
        }
    }
}

impl View {
    fn describe(&self) -> Described<'_> {
        Described {
            path: format!("/{}", self.name),
            key: &self.key_column().name,
            columns: self.columns.iter().map(describe_column).collect(),
            served: self.served(),
            owner: self.owner.map(|owner| self.column(owner).name.as_str()),
            served_to_owners: self.served_to_owners(),
            limits: LIMITS,
            examples: self.examples(),
        }
    }

    /// Everything that may be asked of this view.
    pub fn served(&self) -> Vec<Served<'_>> {
        let shapes = self.shapes.iter().map(|shape| self.describe_shape(shape, None));
        std::iter::once(self.by_keys()).chain(shapes).collect()
    }

    /// The same for those who may read their own rows alone.
    pub fn served_to_owners(&self) -> Vec<Served<'_>> {
        let Some(owner) = self.owner else { return vec![] };
        let shapes = self.shapes.iter().filter(|shape| self.serves_owners(shape));
        let shapes = shapes.map(|shape| self.describe_shape(shape, Some(owner)));
        std::iter::once(self.by_keys()).chain(shapes).collect()
    }

    fn by_keys(&self) -> Served<'_> {
        let key = self.key_column().name.as_str();
        Served {
            equal: vec![key.to_owned()],
            r#in: vec![key],
            only: BTreeMap::new(),
            range: None,
            prefix: None,
            bound_needed: false,
            sort: vec![key],
            covers: self.shapes.first().map(|shape| self.names(&shape.covers)).unwrap_or_default(),
            example: format!("/{}?{key}={{{key}}},{{{key}}}", self.name),
        }
    }

    /// Without `given`, a column that goes without saying.
    fn describe_shape<'a>(&'a self, shape: &'a Shape, given: Option<ColumnId>) -> Served<'a> {
        let name = |id: ColumnId| self.column(id).name.as_str();
        let only: BTreeMap<&str, &str> =
            shape.only.iter().map(|constant| (name(constant.column), constant.value.as_str())).collect();
        let first = name(shape.order[0]);
        let equal: Vec<ColumnId> = shape.equal.iter().copied().filter(|&id| Some(id) != given).collect();
        let plain = equal.iter().map(|&id| name(id).to_owned());
        let functions = shape.functions.iter().map(|(f, id)| format!("{}({})", f.name(), name(*id)));
        Served {
            equal: plain.chain(functions).collect(),
            r#in: self.names(&equal).into_iter().filter(|name| !only.contains_key(name)).collect(),
            range: Some(first),
            prefix: shape.prefix.then_some(first),
            bound_needed: shape.bounded,
            sort: self.names(&shape.order),
            covers: self.names(&shape.covers),
            example: self.example(shape, &equal),
            only,
        }
    }

    /// With `{column}` where a value of that column belongs.
    fn example(&self, shape: &Shape, equal: &[ColumnId]) -> String {
        let name = |id: ColumnId| self.column(id).name.as_str();
        let first = name(shape.order[0]);
        let value = |id: ColumnId| match shape.only.iter().find(|constant| constant.column == id) {
            Some(constant) => constant.value.clone(),
            None => format!("{{{}}}", name(id)),
        };
        let mut asked: Vec<String> = equal.iter().map(|&id| format!("{}={}", name(id), value(id))).collect();
        asked.extend(
            shape.functions.iter().map(|(f, id)| format!("{}({})={}", f.name(), name(*id), value(*id))),
        );
        asked.push(format!("{first}[gte]={{{first}}}"));
        asked.push(format!("sort=-{first}"));
        format!("/{}?{}", self.name, asked.join("&"))
    }

    fn names(&self, ids: &[ColumnId]) -> Vec<&str> {
        ids.iter().map(|&id| self.column(id).name.as_str()).collect()
    }

    /// Queries that work as they stand: no value has to be known.
    fn examples(&self) -> Vec<String> {
        let fields: Vec<&str> = self.columns.iter().take(3).map(|column| column.name.as_str()).collect();
        self.shapes
            .iter()
            .filter(|shape| shape.equal.is_empty() && shape.functions.is_empty() && !shape.bounded)
            .map(|shape| {
                let first = &self.column(shape.order[0]).name;
                format!("/{}?sort=-{first}&limit=5&fields={}", self.name, fields.join(","))
            })
            .collect()
    }
}

fn describe_column(column: &super::Column) -> DescribedColumn<'_> {
    DescribedColumn {
        name: &column.name,
        r#type: &column.type_name,
        nullable: column.nullable,
        accepts: column.kind.map(|kind| kind.accepts()),
        gives: column.kind.map(|kind| kind.gives()),
    }
}
