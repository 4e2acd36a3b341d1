//! The document of this service, made of the domain's own types: a command that is new in the domain is
//! here, too, and so is every rule of the values in it.

mod command;
mod import;
mod parts;

use std::sync::LazyLock;

use axum::{http::header, response::IntoResponse};
use domain::{Kind, tagged::Variant};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};
use service_kit::openapi::{Document, Object, TAG, answer, object, problems};

use super::answer::Accepted;
use service_kit::problem::kinds;

const DESCRIPTION: &str = "\
    Takes commands: wishes that are decided in one order and become events in the log. A command is answered \
    once its events are on disk. `Log-Position` of the answer, given to the query-service as `Min-Position`, \
    reads what the command wrote. With an `Idempotency-Key` a command may be sent again without a second effect.";

/// Nothing in it changes while the program runs.
static OPEN: LazyLock<String> = LazyLock::new(|| build(false).to_string());
static SECURED: LazyLock<String> = LazyLock::new(|| build(true).to_string());

/// `GET /openapi.json`
pub fn document(is_secured: bool) -> impl IntoResponse {
    let document = if is_secured { &SECURED } else { &OPEN };
    ([(header::CONTENT_TYPE, "application/json")], document.as_str())
}

/// Every command to one kind of aggregate.
struct Commands {
    kind: Kind,
    variants: Vec<Variant>,
}

fn build(is_secured: bool) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let all: Vec<Commands> =
        Kind::ALL.iter().map(|&kind| Commands { kind, variants: kind.commands(&mut generator) }).collect();
    generator.subschema_for::<Accepted<'_>>();
    let schemas = schemas(&mut generator, &all);
    let mut paths = object(json!({ "/commands": import::path(&all, &schemas), "/health/writer": writer() }));
    for commands in &all {
        paths.extend(command::paths(commands, &schemas));
    }
    let tags = Kind::ALL.iter().map(|kind| kind.plural()).chain([import::TAG]).collect();
    Document { title: "Headwater: commands", description: DESCRIPTION, tags, paths, schemas, is_secured }
        .build()
}

/// The values that commands hold, the answer, and each command's fields as `account.register`.
fn schemas(generator: &mut SchemaGenerator, all: &[Commands]) -> Object {
    let mut schemas = generator.take_definitions(true);
    for Commands { kind, variants } in all {
        schemas.extend(variants.iter().map(|variant| (parts::name(*kind, variant), variant.content.clone())));
    }
    schemas
}

fn writer() -> Value {
    let mut responses = problems([kinds::NOT_READY]);
    let text = json!({ "type": "string" });
    responses.insert("200".into(), answer("It is.", json!({}), "text/plain", text));
    json!({
        "get": {
            "tags": [TAG],
            "summary": "Is this instance the one that writes?",
            "responses": responses,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_domain_is_there_for_new_and_for_known_aggregates() {
        let document = build(false);
        for path in ["/accounts/register", "/accounts/{id}/register", "/orders/{id}/cancel", "/commands"] {
            assert!(document["paths"][path]["post"].is_object(), "{path}");
        }
        let count = document["paths"].as_object().unwrap().values().filter(|path| path["post"].is_object());
        assert_eq!(count.count(), 2 * (5 + 2) + 1);
    }

    #[test]
    fn a_commands_fields_are_those_of_the_domain() {
        let document = build(false);
        let place = &document["components"]["schemas"]["order.place"];
        assert_eq!(place["required"], json!(["account_id", "quantity", "amount_cents", "currency"]));
        assert_eq!(place["additionalProperties"], false);
        assert_eq!(document["components"]["schemas"]["Quantity"]["maximum"], 1_000_000);
    }

    #[test]
    fn a_rejection_of_the_domain_is_there_under_its_status() {
        let responses = &build(false)["paths"]["/accounts/register"]["post"]["responses"];
        let codes = |status: &str| {
            let schema = &responses[status]["content"]["application/problem+json"]["schema"];
            schema["allOf"][1]["properties"]["code"]["enum"].clone()
        };
        assert_eq!(codes("409"), json!(["email-taken", "username-taken"]));
        assert!(codes("422").as_array().unwrap().contains(&json!("account-closed")));
    }

    #[test]
    fn an_example_has_every_field_that_is_required() {
        let example =
            &build(false)["paths"]["/orders/place"]["post"]["requestBody"]["content"]["application/json"];
        let fields: Vec<_> = example["example"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["account_id", "amount_cents", "currency", "quantity"]);
    }
}
