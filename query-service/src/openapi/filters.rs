//! Everything that a list may ask by: what some shape of the view serves, column by column.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use service_kit::openapi::parameter;

use super::{
    parameters::{separated_by_commas, several},
    schemas::asked,
};
use crate::{
    catalog::{ColumnId, Function, Kind, Shape, View},
    query::{ANY_MAX, KEYS_MAX, OPERATORS},
};

pub fn filters(view: &View) -> Vec<Value> {
    let columns = (0..view.columns.len()).filter_map(|id| Some((id, view.column(id).kind?)));
    columns.flat_map(|(id, kind)| of_column(view, id, kind)).collect()
}

fn of_column(view: &View, id: ColumnId, kind: Kind) -> Vec<Value> {
    let name = &view.column(id).name;
    let plain = serves_value(view, id).then(|| value(view, id, kind));
    let functions = Function::ALL
        .into_iter()
        .filter(|&function| view.shapes.iter().any(|shape| shape.functions.contains(&(function, id))));
    let functions = functions.map(|function| {
        let name = format!("{}({name})", function.name());
        parameter("query", &name, &format!("Rows whose `{name}` is that of this."), asked(kind))
    });
    let operators = OPERATORS.into_iter().filter(|(operator, _)| serves_operator(view, id, operator));
    let operators = operators.map(|(operator, meaning)| {
        let text = format!("`{name}`: {meaning}.");
        operator_of(view, id, kind, &format!("{name}[{operator}]"), operator, &text)
    });
    plain.into_iter().chain(functions).chain(operators).collect()
}

fn serves_value(view: &View, id: ColumnId) -> bool {
    id == view.key || view.shapes.iter().any(|shape| shape.equal.contains(&id))
}

fn serves_operator(view: &View, id: ColumnId, operator: &str) -> bool {
    let is_constant = |shape: &Shape| shape.only.iter().any(|constant| constant.column == id);
    let serves = |shape: &Shape| match operator {
        "in" => shape.equal.contains(&id) && !is_constant(shape),
        "prefix" => shape.order[0] == id && shape.prefix,
        _ => shape.order[0] == id,
    };
    view.shapes.iter().any(|shape| serves(shape)) || (operator == "in" && id == view.key)
}

/// `column=value`; of the key, several values.
fn value(view: &View, id: ColumnId, kind: Kind) -> Value {
    let name = &view.column(id).name;
    if id != view.key {
        let mut one = asked(kind);
        if let Some(constants) = constants(view, id) {
            let is_text = one["type"] == "string";
            let in_json = |text: &str| if is_text { json!(text) } else { text.parse().unwrap_or_default() };
            one["enum"] = constants.into_iter().map(in_json).collect();
        }
        return parameter("query", name, &format!("Rows whose `{name}` is this."), one);
    }
    any(name, "The rows with these keys; with no other filter beside it.", kind, KEYS_MAX)
}

/// The only values that may be asked for, if partial indexes alone serve the column.
fn constants(view: &View, id: ColumnId) -> Option<Vec<&str>> {
    let shapes = view.shapes.iter().filter(|shape| shape.equal.contains(&id));
    let constants = shapes.map(|shape| {
        let constant = shape.only.iter().find(|constant| constant.column == id)?;
        Some(constant.value.as_str())
    });
    // A set: several indexes may be for one value.
    let constants: BTreeSet<&str> = constants.collect::<Option<_>>()?;
    Some(constants.into_iter().collect())
}

fn operator_of(view: &View, id: ColumnId, kind: Kind, name: &str, operator: &str, text: &str) -> Value {
    match operator {
        "in" => any(name, text, kind, if id == view.key { KEYS_MAX } else { ANY_MAX }),
        "prefix" => {
            let mut prefix = asked(kind);
            prefix["minLength"] = json!(1);
            parameter("query", name, text, prefix)
        }
        _ => parameter("query", name, text, asked(kind)),
    }
}

/// They are a set: to name one twice is to name it. A text with a comma would be two.
fn any(name: &str, text: &str, kind: Kind, most: usize) -> Value {
    let mut one = asked(kind);
    if kind == Kind::Text {
        one["pattern"] = json!(r"^[^\u0000,]*$");
    }
    let mut values = several(one, most);
    values["uniqueItems"] = json!(false);
    separated_by_commas(parameter("query", name, text, values), None)
}
