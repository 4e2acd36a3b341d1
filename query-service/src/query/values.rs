//! The values of a query's parameters, each read against the view's columns.

use service_kit::Problem;

use super::{KEYS_MAX, LIMIT_MAX};
use crate::{
    catalog::{ColumnId, View},
    problems::{INVALID_VALUE, NOT_INDEXED, UNKNOWN_FIELD, invalid_value},
};

pub fn parse_value(view: &View, id: ColumnId, field: &str, text: &str) -> Result<String, Problem> {
    let column = view.column(id);
    let Some(kind) = column.kind else {
        let detail =
            format!("`{}` is of the type {}, which no query can ask by.", column.name, column.type_name);
        return Err(Problem::new(NOT_INDEXED, detail).field(field).accepted(view.served()));
    };
    kind.parse(text).ok_or_else(|| invalid_value(field, text, kind.accepts()))
}

pub fn parse_keys(view: &View, text: &str) -> Result<Vec<String>, Problem> {
    parse_values(view, view.key, &view.key_column().name, text, KEYS_MAX)
}

/// Values separated by commas, sorted, none twice.
pub fn parse_values(
    view: &View,
    id: ColumnId,
    field: &str,
    text: &str,
    values_max: usize,
) -> Result<Vec<String>, Problem> {
    let texts: Vec<&str> = text.split(',').collect();
    if texts.len() > values_max {
        let detail = format!("`{field}` names {} values; expected at most {values_max}.", texts.len());
        return Err(Problem::new(INVALID_VALUE, detail)
            .field(field)
            .accepted(format!("1 to {values_max} values separated by commas")));
    }
    let mut values =
        texts.into_iter().map(|text| parse_value(view, id, field, text)).collect::<Result<Vec<_>, _>>()?;
    values.sort();
    values.dedup();
    Ok(values)
}

pub fn parse_count(text: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| invalid_value("count", text, "true or false"))
}

pub fn parse_limit(text: &str) -> Result<u32, Problem> {
    let accepted = format!("a whole number from 1 to {LIMIT_MAX}");
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| invalid_value("limit", text, &accepted))
}

/// The columns to sort by, and whether backwards. An index is read in one direction, so all go the same way.
pub fn parse_sort(view: &View, text: &str) -> Result<(Vec<ColumnId>, bool), Problem> {
    let mut columns = vec![];
    let mut directions = vec![];
    for part in text.split(',') {
        let name = part.strip_prefix('-').unwrap_or(part);
        columns.push(known_column(view, "sort", name)?);
        directions.push(part.starts_with('-'));
    }
    let descending = directions[0];
    if directions.iter().any(|&direction| direction != descending) {
        let detail =
            format!("`sort={text}` mixes directions; no index serves that: give `-` to all or to none.");
        return Err(Problem::new(NOT_INDEXED, detail).field("sort").accepted(view.served()));
    }
    Ok((columns, descending))
}

pub fn parse_fields(view: &View, text: &str) -> Result<Vec<ColumnId>, Problem> {
    let mut fields = vec![];
    for name in text.split(',') {
        let field = known_column(view, "fields", name)?;
        if fields.contains(&field) {
            let detail = format!("`fields` names `{name}` more than once; name it once.");
            return Err(Problem::new(INVALID_VALUE, detail).field("fields").accepted("each name once"));
        }
        fields.push(field);
    }
    Ok(fields)
}

pub fn all_fields(view: &View) -> Vec<ColumnId> {
    (0..view.columns.len()).collect()
}

fn known_column(view: &View, parameter: &str, name: &str) -> Result<ColumnId, Problem> {
    if name.is_empty() {
        return Err(invalid_value(parameter, name, "names of columns separated by commas"));
    }
    view.column_named(name).ok_or_else(|| {
        let accepted: Vec<&str> = view.columns.iter().map(|column| column.name.as_str()).collect();
        let detail = format!(
            "`{parameter}` names `{name}`, which `{}` does not have; it has {}.",
            view.name,
            accepted.join(", ")
        );
        Problem::new(UNKNOWN_FIELD, detail).field(name).accepted(accepted)
    })
}
