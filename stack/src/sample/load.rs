//! Sends the sample to the command-service, as any client would: over HTTP, many at a time, with an
//! `Idempotency-Key` and a deterministic id each, so that sending it again has no second effect.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::Purchase;
use crate::http;
use crate::progress::Progress;

const IN_FLIGHT: usize = 64;

/// How long one command is sent again and again before the load gives up; enough to restart a server.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Sends all purchases, in the order in which they happened but for those in flight together.
pub async fn load(command_service: &str, mut purchases: Vec<Purchase>) -> Result<()> {
    purchases.sort_by_key(|purchase| purchase.date);
    let registrations: HashMap<u32, OnceCell<()>> =
        purchases.iter().map(|purchase| (purchase.customer, OnceCell::new())).collect();
    let progress = Progress::new("commands", purchases.len() + registrations.len());
    let sender = Sender { http: http::client(), base: command_service, progress: &progress };
    futures::stream::iter(&purchases)
        .map(|purchase| {
            let registration = &registrations[&purchase.customer];
            let sender = &sender;
            async move {
                // The customer's first purchase registers them; purchases sent meanwhile wait for that.
                registration
                    .get_or_try_init(|| sender.register(purchase.customer, purchase.account_id()))
                    .await?;
                sender.place(purchase).await
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await
}

struct Sender<'a> {
    http: reqwest::Client,
    base: &'a str,
    progress: &'a Progress,
}

impl Sender<'_> {
    async fn register(&self, customer: u32, account: Uuid) -> Result<()> {
        let body = json!({
            "email": format!("customer-{customer}@cdnow.example"),
            "username": format!("cdnow-{customer}"),
        });
        self.send(&format!("/accounts/{account}/register"), &format!("cdnow-customer-{customer}"), &body)
            .await
    }

    async fn place(&self, purchase: &Purchase) -> Result<()> {
        let body = json!({
            "account_id": purchase.account_id(),
            "quantity": purchase.quantity,
            "amount_cents": purchase.amount_cents,
            "currency": "USD",
            "placed_at": format!("{}T00:00:00Z", purchase.date),
        });
        let key = format!("cdnow-order-{}-{}", purchase.customer, purchase.index);
        self.send(&format!("/orders/{}/place", purchase.order_id()), &key, &body).await
    }

    /// Sends a command until its outcome is known. The key makes it safe to send it again.
    async fn send(&self, path: &str, key: &str, body: &Value) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        let mut delay = FIRST_RETRY;
        loop {
            let request = self.http.post(format!("{}{path}", self.base)).timeout(REQUEST_TIMEOUT);
            let (problem, wait) = match request.header("Idempotency-Key", key).json(body).send().await {
                Ok(answer) if answer.status().is_success() => {
                    self.progress.advance();
                    return Ok(());
                }
                Ok(answer) => {
                    let status = answer.status();
                    let wait = retry_after(&answer);
                    let problem = format!("{status}: {}", answer.text().await.unwrap_or_default());
                    if !is_worth_retrying(status) {
                        bail!("POST {path} was answered with {problem}");
                    }
                    (problem, wait)
                }
                Err(error) => (http::chain(&error), None),
            };
            if Instant::now() > give_up {
                bail!("POST {path} has not succeeded for {PATIENCE:?}; the last answer: {problem}");
            }
            tokio::time::sleep(wait.unwrap_or(delay)).await;
            delay = (delay * 2).min(LAST_RETRY);
        }
    }
}

fn is_worth_retrying(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(PATIENCE))
}
