//! The whole system in one place.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use uuid::Uuid;

use super::{Answer, Call, Place, Servers, Service, until, verify};

/// The whole system, ready.
pub struct World {
    pub place: Place,
    pub commands: Service,
    pub queries: Service,
    pub projector: Service,
    http: reqwest::Client,
}

impl World {
    pub async fn start() -> Self {
        Self::at(Place::new(Servers::shared().await).await).await
    }

    pub async fn at(place: Place) -> Self {
        let queries = place.query_service().await;
        Self::with(place, queries).await
    }

    /// Around a query-service that runs.
    pub async fn with(place: Place, queries: Service) -> Self {
        let (commands, projector) = tokio::join!(place.command_service(), place.projector());
        let world = Self { place, commands, queries, projector, http: reqwest::Client::new() };
        for service in [&world.commands, &world.queries, &world.projector] {
            world.until_ready(service).await;
        }
        world
    }

    pub async fn until_ready(&self, service: &Service) {
        let url = format!("{}/health/ready", service.url);
        until("the service is ready", async || {
            let answer = self.http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// A request to the command-service.
    pub fn post(&self, path: &str) -> Call {
        Call::new(self.http.request(Method::POST, format!("{}{path}", self.commands.url)))
    }

    /// A request to the query-service.
    pub fn get(&self, path: &str) -> Call {
        Call::new(self.http.request(Method::GET, format!("{}{path}", self.queries.url)))
    }

    /// Registers an account, and gives its id.
    pub async fn registered(&self, name: &str) -> Uuid {
        let body = serde_json::json!({"email": format!("{name}@example.org"), "username": name});
        let answer = self.post("/accounts/register").json(&body).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.body["id"].as_str().unwrap().parse().unwrap()
    }

    /// Places an order, and gives the answer.
    pub async fn placed(&self, account: Uuid, cents: i64, day: &str) -> Answer {
        let body = serde_json::json!({"account_id": account, "quantity": 1, "amount_cents": cents,
            "currency": "USD", "placed_at": format!("{day}T12:00:00Z")});
        let answer = self.post("/orders/place").json(&body).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer
    }

    /// The types of all events in the log.
    pub async fn event_types(&self) -> Vec<String> {
        let mut follower = self.place.log().await.follow(Default::default());
        let mut types = Vec::new();
        loop {
            let frames = follower.available().await.unwrap();
            if frames.is_empty() {
                return types;
            }
            types.extend(frames.into_iter().flat_map(|frame| frame.events).map(|event| event.r#type));
        }
    }

    /// What is left when the services are gone.
    pub fn into_servers(self) -> Servers {
        Arc::into_inner(self.place.servers).expect("nobody else uses the servers")
    }

    /// Every view is what the log folds to, and the log keeps its own rules.
    pub async fn verify(&self) {
        verify(&self.place).await;
    }
}
