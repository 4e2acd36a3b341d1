//! A query-service over rows that a test writes itself: owners that are texts, and every shape that is offered.

use reqwest::StatusCode;
use serde_json::json;
use sqlx::PgConnection;

use super::{Visitor, query_service};
use crate::{
    harness::{Answer, Place, Servers, Service, until},
    issuer::Issuer,
    plans::{make_samples, requests},
};

/// A query-service over what a test writes itself.
async fn alone(fill: impl AsyncFnOnce(&mut PgConnection)) -> (Place, Issuer, Service) {
    let (place, issuer) = (Place::new(Servers::shared().await).await, Issuer::new());
    fill(&mut place.database().await).await;
    let queries = query_service(&place, &issuer).await;
    (place, issuer, queries)
}

const ATTACK: &str = "' or 1=1 --";

#[tokio::test]
async fn a_subject_and_all_else_that_a_caller_says_are_values_and_never_sql() {
    let (_place, issuer, queries) = alone(async |database| {
        for statement in [
            "create table notes (id text primary key, writer text not null, text text not null)",
            "insert into notes values ('1', 'ada', 'secret'), ('2', $$' or 1=1 --$$, 'mine'), ('3', 'eve', 'secret')",
            "create index on notes (writer, text, id)",
            "select register_view('notes', 'id', 1)",
            "select register_owner('notes', 'writer')",
        ] {
            sqlx::query(statement).execute(&mut *database).await.unwrap();
        }
    })
    .await;
    let visitor = Visitor::new(&queries, issuer.token(ATTACK, "notes:read accounts:read"));
    until("the catalog is read", async || visitor.get("/").await.body["views"]["notes"].is_object()).await;
    assert_eq!(visitor.column("/notes", "text").await, ["mine"]);
    assert_eq!(visitor.get("/notes/2").await.status, StatusCode::OK);
    for attack in [
        ATTACK,
        "1' or '1'='1",
        "'; drop table notes; --",
        "\" or 1=1 --",
        "1) or true --",
        "ada",
        "{ada,eve}",
        "ada','eve",
        "$1",
        "\\' or 1=1 --",
    ] {
        let attack = percent_encoded(attack);
        for path in [
            format!("/notes/{attack}"),
            format!("/notes?id=1,{attack}"),
            format!("/notes?writer={attack}"),
            format!("/notes?writer[in]=ada,{attack}"),
            format!("/notes?text={attack}"),
            format!("/notes?text[gte]={attack}"),
            format!("/notes?text[prefix]={attack}"),
            format!("/notes?fields={attack}"),
            format!("/notes?sort={attack}"),
            format!("/notes?limit={attack}"),
            format!("/notes?cursor={attack}"),
            format!("/notes?count={attack}"),
            format!("/notes?{attack}=1"),
            format!("/notes?text[{attack}]=1"),
            format!("/notes?lower({attack})=1"),
            format!("/{attack}"),
            format!("/accounts/{attack}"),
        ] {
            let answer = visitor.get(&path).await;
            assert!(!answer.status.is_server_error(), "{path}: {answer:?}");
            assert!(!answer.text.contains("secret"), "{path}: {answer:?}");
        }
    }
    assert_eq!(visitor.get("/accounts").await.problem(), (403, "forbidden"));
    assert_eq!(visitor.column("/notes", "text").await, ["mine"]);
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn all_that_is_offered_to_owners_gives_what_their_rows_alone_would() {
    let (_place, issuer, queries) = alone(async |database| make_samples(database, 2_000).await).await;
    let owner = Visitor::new(&queries, issuer.token("rare", "samples:read"));
    let all = Visitor::new(&queries, issuer.token("rare", "samples:read:any"));
    let mut catalog = json!(null);
    until("the catalog is read", async || {
        catalog = owner.get("/").await.body["views"]["samples"].clone();
        catalog.is_object()
    })
    .await;
    let (mut seen, mut rows) = (0, 0);
    // The first shape is that of the keys, beside which no filter may stand.
    let (by_keys, shapes) = catalog["served_to_owners"].as_array().unwrap().split_first().unwrap();
    for request in shapes.iter().flat_map(|shape| requests(&catalog, shape)) {
        let own = owner.get(&request).await;
        let filtered = all.get(&format!("{request}&kind=rare")).await;
        assert_eq!(own.status, StatusCode::OK, "{request}: {own:?}");
        let given = |answer: &Answer| (answer.body["items"].clone(), answer.body["count"].clone());
        assert_eq!(given(&own), given(&filtered), "{request}");
        rows += own.body["items"].as_array().unwrap().len();
        seen += 1;
    }
    assert!(seen > 100 && rows > 500, "{seen} requests, {rows} rows");
    for request in requests(&catalog, by_keys) {
        let own = owner.get(&request.replace("id=1", "id=1,10,20").replace("=1,2", "=1,2,10")).await;
        let items = own.body["items"].as_array().unwrap_or_else(|| panic!("{request}: {own:?}"));
        assert!(items.iter().all(|item| item["kind"] == "rare"), "{request}: {own:?}");
    }
}
