//! OpenAPI 3.1: what the documents of all services have in common, and the page to try them. Each service
//! makes its own paths beside its routes, and serves the whole at [`PATH`].

mod frame;
mod page;
mod problems;
mod security;

use serde_json::{Value, json};

pub use frame::TAG;
pub use page::page;
pub use problems::problems;

/// Where every service serves its document.
pub const PATH: &str = "/openapi.json";

/// Whether the document or the page to read it is served here.
pub fn is_a_page(path: &str) -> bool {
    path == PATH
        || path == page::DOCS
        || path.strip_prefix(page::DOCS).is_some_and(|rest| rest.starts_with('/'))
}

pub type Object = serde_json::Map<String, Value>;

/// What a service says about itself; the paths of the frame and the schema of problems come on top.
pub struct Document<'a> {
    pub title: &'a str,
    /// In Markdown, as all descriptions are.
    pub description: &'a str,
    /// What the operations are grouped by, in the order in which the page shows the groups.
    pub tags: Vec<&'a str>,
    pub paths: Object,
    pub schemas: Object,
    /// Whether tokens are asked for.
    pub is_secured: bool,
}

impl Document<'_> {
    pub fn build(self) -> Value {
        let Self { title, description, tags, mut paths, mut schemas, is_secured } = self;
        let tags: Vec<Value> = tags.into_iter().chain([TAG]).map(|tag| json!({ "name": tag })).collect();
        paths.extend(frame::paths());
        schemas.insert(problems::SCHEMA.into(), problems::schema());
        let mut document = json!({
            "openapi": "3.1.1",
            "info": {
                "title": title,
                "version": env!("CARGO_PKG_VERSION"),
                "description": format!("{description}\n\n{}", frame::DESCRIPTION),
            },
            // Relative to the document, so that it also holds behind a prefix.
            "servers": [{ "url": "." }],
            "tags": tags,
            "paths": paths,
            "components": { "schemas": schemas },
        });
        if is_secured {
            security::secure(&mut document);
        }
        document
    }
}

/// The members of a JSON object that is known to be one: `object(json!({ … }))`.
pub fn object(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        other => unreachable!("not an object: {other}"),
    }
}

/// The schema of that name among those of the document.
pub fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// A parameter `within` the query or a header.
pub fn parameter(within: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({ "in": within, "name": name, "description": description, "schema": schema })
}

/// A part of the path, which is always there.
pub fn path_parameter(name: &str, description: &str, schema: Value) -> Value {
    json!({ "in": "path", "name": name, "description": description, "schema": schema, "required": true })
}

/// A header of an answer that is always there.
pub fn header(description: &str, schema: Value) -> Value {
    json!({ "description": description, "schema": schema, "required": true })
}

/// An answer with a body.
pub fn answer(description: &str, headers: Value, media_type: &str, schema: Value) -> Value {
    json!({
        "description": description,
        "headers": headers,
        "content": { media_type: { "schema": schema } },
    })
}
