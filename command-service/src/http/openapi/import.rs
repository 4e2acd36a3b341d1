//! `POST /commands`. OpenAPI 3.1 has no word for a body of lines; the schemas are those of the array of all
//! lines, which is how OpenAPI 3.2 reads them.

use domain::{Kind, tagged::Variant};
use serde_json::{Value, json};
use service_kit::{
    openapi::{Object, answer, problems, reference},
    problem::kinds,
};

use super::{
    Commands,
    command::{example, required},
    parts::{name, token, tracing_headers, uuid},
};
use crate::http::{answer::problems as own, body::BODY_BYTES_MAX, imports::MEDIA_TYPES};

pub const TAG: &str = "import";

pub fn path(all: &[Commands], schemas: &Object) -> Value {
    let content = json!({ "schema": lines(all), "example": examples(all, schemas) });
    let content: Object =
        MEDIA_TYPES.iter().map(|media_type| ((*media_type).into(), content.clone())).collect();
    json!({
        "post": {
            "tags": [TAG],
            "operationId": "import",
            "summary": "Many commands in one request, one JSON object a line",
            "description": format!(
                "Commands are decided in the order of the lines, each as if it came alone; a line has at most \
                 {BODY_BYTES_MAX} bytes. One result a line comes back while the request is still being sent, and at the \
                 end a line with `done`: it is `false`, or missing, if the import was cut off. Then send it again \
                 whole: lines with an `idempotency_key` have one effect."
            ),
            "parameters": tracing_headers(),
            "requestBody": { "required": true, "content": content },
            "responses": responses(),
        },
    })
}

fn lines(all: &[Commands]) -> Value {
    let of_kind =
        |commands: &Commands| commands.variants.iter().map(|variant| line(commands.kind, variant)).collect();
    let lines: Vec<Value> = all.iter().flat_map::<Vec<Value>, _>(of_kind).collect();
    json!({ "type": "array", "items": { "oneOf": lines } })
}

fn line(kind: Kind, variant: &Variant) -> Value {
    let mut required_members = vec!["aggregate", "command"];
    if !required(variant).is_empty() {
        required_members.push("data");
    }
    json!({
        "type": "object",
        "title": name(kind, variant),
        "required": required_members,
        "additionalProperties": false,
        "properties": {
            "aggregate": { "const": kind.plural() },
            "command": { "const": variant.name },
            "data": reference(&name(kind, variant)),
            "id": uuid(),
            "idempotency_key": token(),
            "if_match": { "type": "integer", "minimum": 0 },
            "correlation_id": token(),
            "causation_id": token(),
        },
    })
}

/// The first command of each aggregate, as lines.
fn examples(all: &[Commands], schemas: &Object) -> String {
    let line = |commands: &Commands| {
        let variant = commands.variants.first()?;
        let (aggregate, data) = (commands.kind.plural(), example(variant, schemas));
        Some(format!("{}\n", json!({ "aggregate": aggregate, "command": variant.name, "data": data })))
    };
    all.iter().filter_map(line).collect()
}

fn responses() -> Object {
    let mut responses = problems([kinds::INVALID_HEADER, own::UNSUPPORTED_MEDIA_TYPE]);
    let results = json!({ "type": "array", "items": { "anyOf": [success(), failure(), summary()] } });
    responses.insert(
        "200".into(),
        answer("A result for each line, in order, and a last line.", json!({}), MEDIA_TYPES[0], results),
    );
    responses
}

fn success() -> Value {
    let line = json!({ "line": whole(), "status": { "enum": [200, 201] } });
    json!({ "allOf": [reference("Accepted"), { "required": ["line", "status"], "properties": line }] })
}

fn failure() -> Value {
    json!({ "allOf": [reference("Problem"), { "required": ["line"], "properties": { "line": whole() } }] })
}

/// Beside these it has the members of a problem if the import was cut off.
fn summary() -> Value {
    json!({
        "type": "object",
        "required": ["done", "commands", "accepted", "failed"],
        "properties": {
            "done": { "type": "boolean" },
            "commands": whole(),
            "accepted": whole(),
            "failed": whole(),
            "code": { "const": own::IMPORT_INTERRUPTED.code },
        },
    })
}

fn whole() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}
