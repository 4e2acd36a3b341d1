//! What is said of a query that is not served, in words that lead to one that is.

use service_kit::Problem;

use super::{ListQuery, filters::OPERATORS};
use crate::{
    catalog::{ColumnId, View},
    problems::{NOT_INDEXED, UNKNOWN_FIELD},
};

impl ListQuery {
    pub(super) fn not_indexed(&self, view: &View, sort: &[ColumnId]) -> Problem {
        let asked = self.in_words(view, sort);
        // Name the column that no index helps with; else it is the combination that none serves.
        let helped = |column: ColumnId| view.shapes.iter().any(|shape| shape.has(column));
        let blamed = asked.iter().find(|(column, _)| !helped(*column)).or(asked.last());
        let words: Vec<&str> = asked.iter().map(|(_, words)| words.as_str()).collect();
        let mut detail = format!("No index of `{}` serves {}.", view.name, words.join(", "));
        let mut served = view.served();
        if let Some(owner) = &self.owner {
            let (name, column) = (&view.name, &view.column(owner.column).name);
            detail.push_str(&format!(
                " Your token is for your own rows alone, so `{column}` is always asked for; for other \
                 queries it needs the scope `{name}:read:any`."
            ));
            served = view.served_to_owners();
        }
        let problem = Problem::new(NOT_INDEXED, detail).accepted(served);
        match blamed {
            Some((column, _)) => problem.field(&view.column(*column).name),
            None => problem,
        }
    }

    /// All that is asked for, each with the column that it concerns.
    fn in_words(&self, view: &View, sort: &[ColumnId]) -> Vec<(ColumnId, String)> {
        let name = |id: ColumnId| view.column(id).name.as_str();
        let mut asked: Vec<(ColumnId, String)> = vec![];
        let equal = self.keys.iter().map(|_| view.key).chain(self.equal.iter().map(|(column, _)| *column));
        asked.extend(equal.map(|column| (column, format!("equality on `{}`", name(column)))));
        asked.extend(self.any.iter().map(|&(column, _)| (column, format!("`[in]` on `{}`", name(column)))));
        asked.extend(self.functions.iter().map(|&(function, column, _)| {
            (column, format!("equality on `{}({})`", function.name(), name(column)))
        }));
        asked.extend(self.prefix.iter().map(|&column| (column, format!("a prefix of `{}`", name(column)))));
        let bounds = self.bounds.iter().filter(|bound| Some(bound.column) != self.prefix);
        asked.extend(bounds.map(|bound| {
            let (column, operator) = (bound.column, bound.comparison.operator());
            (column, format!("a bound (`{operator}`) on `{}`", name(column)))
        }));
        asked.extend(sort.iter().map(|&column| (column, format!("an order by `{}`", name(column)))));
        asked
    }
}

/// Every parameter that a list takes.
pub fn accepted_names(view: &View) -> Vec<String> {
    let mut names = ["fields", "sort", "limit", "cursor", "count"].map(str::to_owned).to_vec();
    let column = |id: ColumnId| view.column(id).name.as_str();
    for shape in &view.shapes {
        let plain = shape.equal.iter().chain(&shape.order).map(|&id| column(id).to_owned());
        let functions = shape.functions.iter().map(|(f, id)| format!("{}({})", f.name(), column(*id)));
        for name in plain.chain(functions) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

pub fn unknown_parameter(name: &str, accepted: Vec<String>) -> Problem {
    let detail = format!("`{name}` is not a parameter here; expected {}.", accepted.join(", "));
    Problem::new(UNKNOWN_FIELD, detail).field(name).accepted(accepted)
}

pub fn unknown_operator(name: &str, operator: &str) -> Problem {
    let accepted: Vec<String> = OPERATORS.iter().map(|(known, _)| format!("[{known}]")).collect();
    let detail =
        format!("`{name}` has the unknown operator `[{operator}]`; there are {}.", accepted.join(", "));
    Problem::new(UNKNOWN_FIELD, detail).field(name).accepted(accepted)
}
