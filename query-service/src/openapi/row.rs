//! `GET /{view}/{key}`

use serde_json::{Value, json};
use service_kit::{
    Kind,
    openapi::{Object, answer, path_parameter, problems},
    problem::kinds::{INVALID_HEADER, OVERLOADED},
};

use super::{parameters, row_of, schemas::asked};
use crate::{
    catalog::View,
    problems::{
        DUPLICATE_PARAMETER, INVALID_VALUE, NO_SUCH_ROW, UNKNOWN_FIELD, UNKNOWN_VIEW, VIEW_BEHIND,
        VIEWS_UNAVAILABLE,
    },
};

/// What can be wrong with any query.
pub const PROBLEMS: [Kind; 8] = [
    INVALID_VALUE,
    UNKNOWN_FIELD,
    DUPLICATE_PARAMETER,
    INVALID_HEADER,
    UNKNOWN_VIEW,
    VIEWS_UNAVAILABLE,
    VIEW_BEHIND,
    OVERLOADED,
];

pub fn path(view: &View, key: Option<&str>) -> Value {
    let column = view.key_column();
    let mut named = column.kind.map_or(json!({}), asked);
    if named["type"] == "string" {
        named["minLength"] = json!(1);
    }
    let mut key_parameter = path_parameter(&column.name, "Names the row.", named);
    if let Some(key) = key {
        key_parameter["example"] = json!(key);
    }
    let parameters: Vec<Value> =
        [key_parameter, parameters::fields(view)].into_iter().chain(parameters::headers()).collect();
    json!({
        "get": {
            "tags": [view.name],
            "operationId": format!("{}.row", view.name),
            "summary": format!("One row of {}", view.name),
            "parameters": parameters,
            "responses": responses(view),
        },
    })
}

fn responses(view: &View) -> Object {
    let mut responses = problems(PROBLEMS.into_iter().chain([NO_SUCH_ROW]));
    let mut row = answer("The row.", json!(parameters::answered()), "application/json", row_of(view));
    parameters::also_live(&mut row);
    responses.insert("200".into(), row);
    responses.insert("304".into(), parameters::not_modified());
    responses
}
