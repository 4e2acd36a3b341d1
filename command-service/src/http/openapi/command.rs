//! The two paths of each command: to a new aggregate, whose id the service makes, and to a known one.

use domain::{Kind, tagged::Variant};
use serde_json::{Value, json};
use service_kit::{
    openapi::{Object, answer, header, path_parameter, problems, reference},
    problem::kinds,
};

use super::{
    Commands,
    parts::{command_headers, name, tracing_headers, uuid},
};
use crate::http::answer::{kind_of, problems as own};

pub fn paths(commands: &Commands, schemas: &Object) -> Object {
    let mut paths = Object::new();
    let plural = commands.kind.plural();
    for variant in &commands.variants {
        let body = body(commands.kind, variant, schemas);
        let to_new = operation(commands, variant, &body, Addressed::New);
        let to_known = operation(commands, variant, &body, Addressed::Known);
        paths.insert(format!("/{plural}/{}", variant.name), json!({ "post": to_new }));
        paths.insert(format!("/{plural}/{{id}}/{}", variant.name), json!({ "post": to_known }));
    }
    paths
}

#[derive(Clone, Copy, PartialEq)]
enum Addressed {
    New,
    Known,
}

fn operation(commands: &Commands, variant: &Variant, body: &Value, addressed: Addressed) -> Value {
    let kind = commands.kind;
    let id = "The aggregate's id; you choose that of a new one.";
    let id = (addressed == Addressed::Known).then(|| path_parameter("id", id, uuid()));
    let parameters: Vec<Value> = id.into_iter().chain(command_headers()).chain(tracing_headers()).collect();
    let description = variant.description.as_deref().unwrap_or(&variant.name);
    let (summary, more) = description.split_once('\n').unwrap_or((description, ""));
    let (suffix, whom) = match addressed {
        Addressed::New => (".new", format!("To a new {}, whose id the service makes.", kind.name())),
        Addressed::Known => ("", format!("To the {} with this id.", kind.name())),
    };
    json!({
        "tags": [kind.plural()],
        "operationId": format!("{}{suffix}", name(kind, variant)),
        "summary": summary,
        "description": format!("{whom} {more}").trim(),
        "parameters": parameters,
        "requestBody": body,
        "responses": responses(commands, addressed),
    })
}

/// A command without required fields may come without a body.
fn body(kind: Kind, variant: &Variant, schemas: &Object) -> Value {
    json!({
        "required": !required(variant).is_empty(),
        "content": {
            "application/json": {
                "schema": reference(&name(kind, variant)),
                "example": example(variant, schemas),
            },
        },
    })
}

pub fn required(variant: &Variant) -> Vec<&str> {
    let required = variant.content["required"].as_array().map_or(&[][..], Vec::as_slice);
    required.iter().filter_map(Value::as_str).collect()
}

/// The required fields, each with the first example of its value.
pub fn example(variant: &Variant, schemas: &Object) -> Value {
    let example_of = |field: &&str| {
        let value = &variant.content["properties"][*field];
        let named = value["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let schema = named.and_then(|name| schemas.get(name)).unwrap_or(value);
        let made_up = || if schema["format"] == "uuid" { json!(UUID) } else { Value::Null };
        schema["examples"].get(0).cloned().unwrap_or_else(made_up)
    };
    required(variant).iter().map(|field| ((*field).to_owned(), example_of(field))).collect::<Object>().into()
}

const UUID: &str = "4b5b0570-eff7-5432-8850-ffc0fbbbdb26";

fn responses(commands: &Commands, addressed: Addressed) -> Object {
    let rejections = commands.kind.rejections().iter().map(kind_of);
    let ours = [
        own::MALFORMED_JSON,
        own::INVALID_FIELD,
        kinds::INVALID_HEADER,
        own::REVISION_MISMATCH,
        own::BODY_TOO_LARGE,
        own::UNSUPPORTED_MEDIA_TYPE,
        own::KEY_REUSED,
        kinds::OVERLOADED,
        own::NO_WRITER,
        own::LOG_UNAVAILABLE,
        own::OUTCOME_UNKNOWN,
    ];
    let of_the_path = match addressed {
        Addressed::New => &[][..],
        // An id that is no UTF-8 is no path of ours.
        Addressed::Known => &[own::INVALID_ID, kinds::UNKNOWN_ROUTE],
    };
    let mut responses = problems(of_the_path.iter().copied().chain(ours).chain(rejections));
    responses.insert("200".into(), accepted("The command is on disk, or changed nothing.", commands, false));
    responses.insert("201".into(), accepted("The aggregate's first events are on disk.", commands, true));
    responses
}

fn accepted(description: &str, commands: &Commands, is_created: bool) -> Value {
    let position = json!({ "type": "integer", "minimum": 0 });
    let revision = json!({ "type": "string", "pattern": r#"^"[0-9]+"$"# });
    let mut headers = json!({
        "Log-Position": header("The position to give to a query as `Min-Position`.", position),
        "ETag": header("The aggregate's revision, to give to the next command as `If-Match`.", revision),
    });
    if is_created {
        let place = json!({ "type": "string", "format": "uri-reference" });
        headers["Location"] = header("Where the query-service has it.", place);
    }
    let mut accepted = answer(description, headers, "application/json", reference("Accepted"));
    accepted["links"] = links(commands);
    accepted
}

/// The answer's id is what the next command to the same aggregate addresses.
fn links(commands: &Commands) -> Value {
    let link = |variant: &Variant| {
        let operation = name(commands.kind, variant);
        let id = json!({ "id": "$response.body#/id" });
        (variant.name.clone(), json!({ "operationId": operation, "parameters": id }))
    };
    commands.variants.iter().map(link).collect::<Object>().into()
}
