//! The document of this service, made of the catalog: it offers what the indexes serve, and changes when
//! they do.

mod filters;
mod keys;
mod list;
mod parameters;
mod row;
mod schemas;

pub use keys::{Keys, some_keys};
use serde_json::{Value, json};
use service_kit::openapi::{Document, Object, answer, object, problems, reference};

use crate::{
    catalog::{Catalog, View},
    problems::VIEWS_UNAVAILABLE,
};

const DESCRIPTION: &str = "\
    Answers queries from views, which are folded from the log. Every query on offer is served by an index; what \
    none serves is 400 `not-indexed`, with the list of what may be asked. `Log-Position` says which position of \
    the log an answer reflects. `Min-Position` asks for one that a command gave, so that what was written can be \
    read.";

const CATALOG: &str = "catalog";

pub fn document(catalog: &Catalog, keys: &Keys, is_secured: bool) -> Value {
    let mut paths = object(json!({ "/": catalog_path() }));
    let mut schemas = Object::new();
    for view in catalog.views.values() {
        let key = keys.get(view.name.as_ref()).map(String::as_str);
        paths.insert(format!("/{}", view.name), list::path(view));
        paths.insert(format!("/{}/{{{}}}", view.name, view.key_column().name), row::path(view, key));
        schemas.insert(view.name.to_string(), schemas::row(view));
    }
    let tags = std::iter::once(CATALOG).chain(catalog.views.keys().map(AsRef::as_ref)).collect();
    Document { title: "Headwater: queries", description: DESCRIPTION, tags, paths, schemas, is_secured }
        .build()
}

fn catalog_path() -> Value {
    let mut responses = problems([VIEWS_UNAVAILABLE]);
    let views = json!({ "type": "object", "required": ["views"] });
    responses.insert("200".into(), answer("The catalog.", json!({}), "application/json", views));
    json!({
        "get": {
            "tags": [CATALOG],
            "operationId": "catalog",
            "summary": "The views, their columns, and what may be asked of each",
            "responses": responses,
        },
    })
}

/// A row of the view. Views are named as modules and tables are, which are names that a schema may have.
fn row_of(view: &View) -> Value {
    reference(&view.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::orders;

    fn orders_document() -> Value {
        let view = orders();
        let catalog = Catalog { views: [(view.name.clone(), view.into())].into() };
        document(
            &catalog,
            &Keys::from([("orders".into(), "0192d3a4-5b6c-7d8e-9f00-112233445566".into())]),
            false,
        )
    }

    fn parameter(path: &str, name: &str) -> Value {
        let document = orders_document();
        let parameters = document["paths"][path]["get"]["parameters"].as_array().expect("parameters").clone();
        parameters.into_iter().find(|parameter| parameter["name"] == name).unwrap_or_default()
    }

    #[test]
    fn a_view_has_a_path_for_its_list_and_one_for_its_rows() {
        let paths = orders_document()["paths"].clone();
        for path in ["/", "/orders", "/orders/{id}", "/health/ready"] {
            assert!(paths[path]["get"].is_object(), "{path}");
        }
    }

    #[test]
    fn what_an_index_serves_is_a_parameter_and_nothing_else_is() {
        for name in ["account_id", "account_id[in]", "account_id[gt]", "placed_at[gte]", "id[in]"] {
            assert!(parameter("/orders", name).is_object(), "{name}");
        }
        for name in ["reason", "reason[gte]", "reason[prefix]", "lower(status)"] {
            assert!(parameter("/orders", name).is_object(), "{name}");
        }
        for name in ["extra", "status[in]", "status[gte]", "placed_at[prefix]", "lower(reason)"] {
            assert!(parameter("/orders", name).is_null(), "{name}");
        }
    }

    #[test]
    fn a_column_that_a_partial_index_alone_serves_may_have_that_value_alone() {
        assert_eq!(parameter("/orders", "status")["schema"]["enum"], json!(["cancelled"]));
        assert!(parameter("/orders", "account_id")["schema"]["enum"].is_null());
    }

    #[test]
    fn several_keys_are_given_as_a_list() {
        let keys = parameter("/orders", "id");
        assert_eq!((&keys["explode"], &keys["schema"]["maxItems"]), (&json!(false), &json!(100)));
        assert_eq!(keys["schema"]["items"]["format"], "uuid");
    }

    #[test]
    fn a_row_may_lack_members_but_has_no_others_and_only_some_may_be_null() {
        let row = &orders_document()["components"]["schemas"]["orders"];
        assert_eq!((&row["additionalProperties"], &row["required"]), (&json!(false), &Value::Null));
        assert_eq!(row["properties"]["reason"]["type"], json!(["string", "null"]));
        assert_eq!(row["properties"]["status"]["type"], json!("string"));
        assert_eq!(row["properties"]["placed_at"]["format"], "date-time");
    }

    #[test]
    fn the_example_of_a_key_is_one_that_is_there() {
        assert_eq!(parameter("/orders/{id}", "id")["example"], "0192d3a4-5b6c-7d8e-9f00-112233445566");
    }
}
