//! The services' documents, and the page to try them.

use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{Answer, Call, World, until};

/// From the service at `url`.
async fn fetch(url: &str, path: &str) -> Answer {
    Call::new(reqwest::Client::new().get(format!("{url}{path}"))).send().await
}

async fn document(url: &str) -> Value {
    let answer = fetch(url, "/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn every_view_and_every_command_is_in_a_document() {
    let world = World::start().await;
    let (queries, commands) = (document(&world.queries.url).await, document(&world.commands.url).await);
    for view in domain::views::ALL {
        assert!(queries["paths"][format!("/{}", view.name)]["get"].is_object(), "{}", view.name);
    }
    for kind in domain::Kind::ALL {
        for command in kind.commands(&mut Default::default()) {
            let path = format!("/{}/{{id}}/{}", kind.plural(), command.name);
            assert!(commands["paths"][&path]["post"].is_object(), "{path}");
        }
    }
}

#[tokio::test]
async fn the_examples_of_a_row_work() {
    let world = World::start().await;
    let ada = world.registered("ada").await;
    world.get(&format!("/accounts/{ada}")).header("Min-Position", 1).send().await;
    let document = document(&world.queries.url).await;
    let parameters = &document["paths"]["/accounts/{id}"]["get"]["parameters"];
    assert_eq!(parameters[0]["example"], ada.to_string());
    let fields: Vec<&str> =
        parameters[1]["example"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
    let row = world.get(&format!("/accounts/{ada}?fields={}", fields.join(","))).send().await;
    assert_eq!(row.status, StatusCode::OK, "{row:?}");
}

#[tokio::test]
async fn the_document_follows_the_catalog() {
    let world = World::start().await;
    sqlx::query("alter table accounts rename column region to place")
        .execute(&mut world.place.database().await)
        .await
        .unwrap();
    until("the document has the new column", async || {
        // A query for what is gone is how the service comes to know at once.
        world.get("/accounts?fields=region").send().await;
        let document = document(&world.queries.url).await;
        let columns = &document["components"]["schemas"]["accounts"]["properties"];
        columns["place"].is_object() && columns["region"].is_null()
    })
    .await;
}

#[tokio::test]
async fn the_page_brings_all_that_it_needs() {
    let world = World::start().await;
    for url in [&world.queries.url, &world.commands.url] {
        let page = fetch(url, "/docs").await;
        assert_eq!(page.header("content-type"), "text/html");
        assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
        let index = fetch(url, "/docs/").await;
        assert_eq!(index.status, StatusCode::OK);
        let initializer = fetch(url, "/docs/swagger-initializer.js").await;
        assert!(initializer.text.contains("\"../openapi.json\""), "{initializer:?}");
        for asset in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"] {
            assert_eq!(fetch(url, &format!("/docs/{asset}")).await.status, StatusCode::OK, "{asset}");
        }
        assert_eq!(fetch(url, "/docs/nothing.js").await.problem(), (404, "unknown-route"));
    }
}
