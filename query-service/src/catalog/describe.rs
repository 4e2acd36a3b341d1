//! The catalog in the words of a client: what `GET /` answers, and what a refused query could have asked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Catalog, ColumnId, Shape, View};
use crate::query::{KEYS_MAX, LIMIT_DEFAULT, LIMIT_MAX};

/// One shape that is served, by the names of its columns.
#[derive(Debug, Serialize)]
pub struct Served<'a> {
    /// Give `column=value` for each of these.
    equal: Vec<&'a str>,
    /// This column may be bounded with `[gte]`, `[gt]`, `[lte]`, `[lt]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'a str>,
    /// The order of the answer; `sort` may name its first columns, each with a `-` for the way back.
    sort: Vec<&'a str>,
    example: String,
}

#[derive(Serialize)]
struct Described<'a> {
    path: String,
    key: &'a str,
    columns: Vec<DescribedColumn<'a>>,
    served: Vec<Served<'a>>,
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
}

#[derive(Serialize)]
struct Limits {
    limit_default: u32,
    limit_max: u32,
    keys_max: usize,
}

const LIMITS: Limits = Limits { limit_default: LIMIT_DEFAULT, limit_max: LIMIT_MAX, keys_max: KEYS_MAX };

impl Catalog {
    /// The answer to `GET /`.
    pub fn describe(&self) -> impl Serialize {
        let views: BTreeMap<&str, Described<'_>> =
            self.views.iter().map(|(name, view)| (name.as_ref(), view.describe())).collect();
        BTreeMap::from([("views", views)])
    }
}

impl View {
    fn describe(&self) -> Described<'_> {
        Described {
            path: format!("/{}", self.name),
            key: &self.key_column().name,
            columns: self.columns.iter().map(describe_column).collect(),
            served: self.served(),
            limits: LIMITS,
            examples: self.examples(),
        }
    }

    /// Everything that may be asked of this view.
    pub fn served(&self) -> Vec<Served<'_>> {
        let key = self.key_column().name.as_str();
        let by_keys = Served {
            equal: vec![key],
            range: None,
            sort: vec![key],
            example: format!("/{}?{key}={{{key}}},{{{key}}}", self.name),
        };
        std::iter::once(by_keys).chain(self.shapes.iter().map(|shape| self.describe_shape(shape))).collect()
    }

    fn describe_shape(&self, shape: &Shape) -> Served<'_> {
        let names =
            |ids: &[ColumnId]| ids.iter().map(|&id| self.column(id).name.as_str()).collect::<Vec<_>>();
        let (equal, sort) = (names(&shape.equal), names(&shape.order));
        let first = sort[0];
        let mut asked: Vec<String> = equal.iter().map(|name| format!("{name}={{{name}}}")).collect();
        asked.push(format!("{first}[gte]={{{first}}}"));
        asked.push(format!("sort=-{first}"));
        Served { example: format!("/{}?{}", self.name, asked.join("&")), range: Some(first), equal, sort }
    }

    /// Queries that work as they stand: no value has to be known.
    fn examples(&self) -> Vec<String> {
        let fields: Vec<&str> = self.columns.iter().take(3).map(|column| column.name.as_str()).collect();
        self.shapes
            .iter()
            .filter(|shape| shape.equal.is_empty())
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
    }
}
