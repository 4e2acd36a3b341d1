//! What values look like: in a request, and in an answer.

use serde_json::{Value, json};
use service_kit::openapi::Object;

use crate::catalog::{Column, Kind, View};

/// A value that a query may ask by.
pub fn asked(kind: Kind) -> Value {
    match kind {
        Kind::Uuid => json!({ "type": "string", "format": "uuid" }),
        Kind::SmallInt => json!({ "type": "integer", "minimum": i16::MIN, "maximum": i16::MAX }),
        Kind::Integer => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }),
        Kind::BigInt => json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
        Kind::Numeric => json!({ "type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "maxLength": 100 }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Text => json!({ "type": "string", "pattern": r"^[^\u0000]*$" }),
        Kind::Date => json!({ "type": "string", "format": "date", "pattern": YEAR }),
        Kind::Timestamp => {
            json!({ "type": "string", "pattern": YEAR, "anyOf": [{ "format": "date-time" }, { "format": "date" }] })
        }
    }
}

/// There is no year 0.
const YEAR: &str = "^(?!0000)";

/// A row: its members are those that `fields` chooses.
pub fn row(view: &View) -> Value {
    let members: Object = view.columns.iter().map(|column| (column.name.clone(), answered(column))).collect();
    json!({
        "type": "object",
        "description": "A row, with the members that `fields` names; with all without it.",
        "properties": members,
        "additionalProperties": false,
        "minProperties": 1,
    })
}

/// The value of a column, as Postgres writes it in JSON.
fn answered(column: &Column) -> Value {
    let (r#type, format) = match column.kind {
        None => return json!({ "description": column.type_name }),
        Some(Kind::Uuid) => ("string", Some("uuid")),
        Some(Kind::SmallInt | Kind::Integer) => ("integer", Some("int32")),
        Some(Kind::BigInt) => ("integer", Some("int64")),
        Some(Kind::Numeric) => ("number", None),
        Some(Kind::Boolean) => ("boolean", None),
        Some(Kind::Text) => ("string", None),
        Some(Kind::Date) => ("string", Some("date")),
        Some(Kind::Timestamp) => ("string", Some("date-time")),
    };
    let mut schema = json!({ "description": column.type_name });
    schema["type"] = if column.nullable { json!([r#type, "null"]) } else { json!(r#type) };
    if let Some(format) = format {
        schema["format"] = json!(format);
    }
    schema
}
