//! `GET /{view}`

use serde_json::{Value, json};
use service_kit::openapi::{Object, answer, problems};

use super::{filters::filters, parameters, row, row_of};
use crate::{
    catalog::View,
    problems::{INVALID_CURSOR, NOT_INDEXED},
    query::COUNT_MAX,
};

pub fn path(view: &View) -> Value {
    let parameters: Vec<Value> = [parameters::fields(view)]
        .into_iter()
        .chain(parameters::page(view))
        .chain(filters(view))
        .chain(parameters::headers())
        .collect();
    json!({
        "get": {
            "tags": [view.name],
            "operationId": format!("{}.list", view.name),
            "summary": format!("Rows of {}", view.name),
            "description": "Filters and sort go together where one index serves them all; `x-served` lists how.",
            "parameters": parameters,
            "responses": responses(view),
            "x-served": view.served(),
        },
    })
}

fn responses(view: &View) -> Object {
    let mut responses = problems(row::PROBLEMS.into_iter().chain([INVALID_CURSOR, NOT_INDEXED]));
    let next = "The next page, relative to this one's address, with `rel=\"next\"`; absent on the last.";
    let mut headers = parameters::answered();
    headers.insert("Link".into(), json!({ "description": next, "schema": { "type": "string" } }));
    let page = json!({
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": { "type": "array", "items": row_of(view) },
            "next_cursor": {
                "type": ["string", "null"],
                "description": "To be given as `cursor`; null on the last page.",
            },
            "count": { "type": "integer", "minimum": 0, "maximum": COUNT_MAX },
            "count_is_exact": { "type": "boolean", "description": "False when there are more." },
        },
        "additionalProperties": false,
    });
    let mut answer = answer("A page of rows.", json!(headers), "application/json", page);
    parameters::also_live(&mut answer);
    answer["links"] = links(view);
    responses.insert("200".into(), answer);
    responses.insert("304".into(), parameters::not_modified());
    responses
}

/// A row of the page by its key, and the next page.
fn links(view: &View) -> Value {
    let key = &view.key_column().name;
    let first = format!("$response.body#/items/0/{}", pointer(key));
    json!({
        "row": { "operationId": format!("{}.row", view.name), "parameters": { format!("path.{key}"): first } },
    })
}

/// A name within a JSON pointer (RFC 6901).
fn pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
