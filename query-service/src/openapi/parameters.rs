//! What a request may say: the parameters of a query, and the headers of all.

use std::sync::Arc;

use serde_json::{Value, json};
use service_kit::openapi::{Object, header, parameter};

use crate::{
    catalog::{ColumnId, Shape, View},
    freshness::{WAIT_DEFAULT_S, WAIT_MAX_S},
    query::{COUNT_MAX, LIMIT_DEFAULT, LIMIT_MAX},
};

/// How many fields an example asks for.
const EXAMPLE_FIELDS: usize = 3;

pub fn fields(view: &View) -> Value {
    let names: Vec<&str> = view.columns.iter().map(|column| column.name.as_str()).collect();
    let schema = several(json!({ "type": "string", "enum": names }), names.len());
    let text = "The columns to answer with, in this order; all without it.";
    let example = &names[..names.len().min(EXAMPLE_FIELDS)];
    separated_by_commas(parameter("query", "fields", text, schema), Some(json!(example)))
}

pub fn page(view: &View) -> Vec<Value> {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT });
    let mut limit = parameter("query", "limit", "Rows at the most.", limit);
    limit["example"] = json!(5);
    let text = "Where to go on: `next_cursor` of the page before, with the same filters and the same sort.";
    let cursor = parameter("query", "cursor", text, json!({ "type": "string", "minLength": 1 }));
    let text = format!("`true` counts the rows of all pages together, up to {COUNT_MAX}.");
    vec![sort(view), limit, cursor, parameter("query", "count", &text, json!({ "type": "boolean" }))]
}

fn sort(view: &View) -> Value {
    let mut columns: Vec<ColumnId> =
        view.shapes.iter().flat_map(|shape| shape.order.iter().copied()).collect();
    columns.sort_unstable();
    columns.dedup();
    let names = columns.iter().map(|&id| view.column(id).name.as_str());
    let both: Vec<String> = names.flat_map(|name| [name.to_owned(), format!("-{name}")]).collect();
    let schema = several(json!({ "type": "string", "enum": both }), columns.len());
    let text = "The order, which an index must have; with `-` backwards, all columns or none.";
    let alone = |shape: &&Arc<Shape>| {
        shape.path.len() == shape.order.len() && shape.only.is_empty() && !shape.bounded
    };
    let first = view.shapes.iter().rfind(alone).map(|shape| shape.order[0]);
    let example = first.map(|id| json!([format!("-{}", view.column(id).name)]));
    separated_by_commas(parameter("query", "sort", text, schema), example)
}

pub fn several(items: Value, most: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1, "maxItems": most, "uniqueItems": true })
}

pub fn separated_by_commas(mut parameter: Value, example: Option<Value>) -> Value {
    parameter["style"] = json!("form");
    parameter["explode"] = json!(false);
    if let Some(example) = example {
        parameter["example"] = example;
    }
    parameter
}

/// The headers that say how fresh an answer must be, and which one the client has.
pub fn headers() -> [Value; 3] {
    let position = json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX });
    let least =
        "The answer must reflect at least this position of the log, as `Log-Position` of a command gave it.";
    let wait = format!(
        "`wait=5` (RFC 7240): how many seconds to wait for `Min-Position`; {WAIT_DEFAULT_S} without it, {WAIT_MAX_S} at the most."
    );
    // There may be other preferences, which are ignored.
    let prefer = json!({ "type": "string" });
    let known = "`ETag` of an answer that the client has: 304 without a body if it still holds.";
    [
        parameter("header", "Min-Position", least, position),
        parameter("header", "Prefer", &wait, prefer),
        parameter("header", "If-None-Match", known, json!({ "type": "string" })),
    ]
}

/// The headers of every answer that was read.
pub fn answered() -> Object {
    let position = json!({ "type": "integer", "minimum": 0 });
    let etag = json!({ "type": "string", "pattern": "^\"[0-9a-f]{16}\"$" });
    let cache = json!({ "type": "string", "pattern": "^headwater; (hit|fwd=(miss|stale|bypass))$" });
    let headers = [
        ("Log-Position", header("The position of the log that the answer reflects.", position)),
        ("ETag", header("Names the content of the answer, for `If-None-Match`.", etag)),
        ("Cache-Status", header("Whether it came from memory, or why not (RFC 9211).", cache)),
    ];
    headers.map(|(name, header)| (name.to_owned(), header)).into_iter().collect()
}

/// The answer to who has it already.
pub fn not_modified() -> Value {
    json!({ "description": "The client has this answer.", "headers": answered() })
}

/// The other way to have an answer.
pub fn also_live(answer: &mut Value) {
    let text = "Asked for with `Accept: text/event-stream`: an event `state` whose `data` is the answer as it is now, \
                and one more whenever it changes; `gone` while there is no such row.";
    answer["content"]["text/event-stream"] = json!({ "schema": { "type": "string", "description": text } });
}
