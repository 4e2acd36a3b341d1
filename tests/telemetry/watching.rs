//! What a service says of itself to those who watch it, and where.

use reqwest::StatusCode;
use stack::{ports, servers::temporary_folder};

use crate::{
    harness::{Answer, Call, Place, Servers},
    instance::Instance,
};

async fn get(url: &str, path: &str) -> Answer {
    Call::new(reqwest::Client::new().get(format!("{url}{path}"))).send().await
}

#[tokio::test]
async fn those_who_watch_may_have_an_address_of_their_own() {
    let place = Place::new(Servers::shared().await).await;
    let folder = temporary_folder().unwrap();
    let address = format!("127.0.0.1:{}", ports::next_free(0).unwrap());
    let settings = vec![("HEADWATER_ADMIN_ADDRESS", address.clone().into())];
    let service = Instance::query_service_with(&place, folder.path().join("log"), settings).await;
    let admin = format!("http://{address}");
    for url in [&admin, &service.url] {
        let version = get(url, "/version").await.body;
        assert_eq!((&version["name"], version["version"].is_string()), (&"query-service".into(), true));
        let ready = get(url, "/health/ready").await;
        assert_eq!((ready.status, &ready.body["checks"]["views"]), (StatusCode::OK, &"ok".into()));
        assert_eq!(get(url, "/health/live").await.status, StatusCode::OK);
    }
    assert!(get(&admin, "/metrics").await.text.contains("headwater_http_connections"));
    assert_eq!(get(&service.url, "/metrics").await.problem(), (404, "unknown-view"));
    assert_eq!(get(&admin, "/").await.problem(), (404, "unknown-route"));
    service.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_ready_says_of_each_part_how_it_is() {
    let nowhere = format!("postgres://127.0.0.1:{}/none", ports::next_free(0).unwrap());
    let place = Place::with(Servers::shared().await, "watching".into(), nowhere);
    let queries = place.query_service().await;
    let answer = get(&queries.url, "/health/ready").await;
    assert_eq!(answer.problem(), (503, "not-ready"));
    assert!(answer.body["checks"]["views"].as_str().is_some_and(|reason| reason != "ok"), "{answer:?}");
}
