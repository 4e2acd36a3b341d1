//! Sends the sample to the command-service, as any client would: as an import, each line with an
//! `idempotency_key` and a deterministic id, so that sending it again has no second effect.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::Purchase;
use crate::http;
use crate::issuer::Issuer;
use crate::progress::Progress;

/// How long the import may be without a result before the load gives up; enough to restart a server.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What a token has to allow that is for this import.
const SCOPES: &str = "account:register:any order:place:any";

/// Sends all purchases in the order in which they happened; a customer's first one registers them. With a token, if
/// there is an issuer of some.
pub async fn load(
    command_service: &str,
    issuer: Option<&Issuer>,
    mut purchases: Vec<Purchase>,
) -> Result<()> {
    purchases.sort_by_key(|purchase| purchase.date);
    let mut registered = HashSet::new();
    let mut lines = Vec::new();
    for purchase in &purchases {
        if registered.insert(purchase.customer) {
            lines.push(register(purchase));
        }
        lines.push(place(purchase));
    }
    let url = format!("{command_service}/commands");
    let progress = Progress::new("commands", lines.len());
    let (mut accepted, mut last_accepted) = (0, Instant::now());
    loop {
        let import = http::client().post(&url).header(header::CONTENT_TYPE, "application/x-ndjson");
        let import =
            issuer.iter().fold(import, |import, issuer| import.bearer_auth(issuer.own_token(SCOPES)));
        let outcome = match timeout(PATIENCE, import.body(lines[accepted..].concat()).send()).await {
            Ok(Ok(answer)) => {
                let advance = || {
                    (accepted, last_accepted) = (accepted + 1, Instant::now());
                    progress.advance();
                };
                read(answer, advance).await?
            }
            Ok(Err(error)) => http::chain(&error),
            Err(_) => "no answer".to_owned(),
        };
        if accepted == lines.len() {
            return Ok(());
        }
        if last_accepted.elapsed() > PATIENCE {
            bail!("the import has not gone on for {PATIENCE:?}: {outcome}");
        }
        sleep(RETRY_DELAY).await;
    }
}

fn register(purchase: &Purchase) -> String {
    let customer = purchase.customer;
    line(&json!({
        "aggregate": "accounts",
        "id": purchase.account_id(),
        "command": "register",
        "idempotency_key": format!("cdnow-customer-{customer}"),
        "data": {
            "email": format!("customer-{customer}@cdnow.example"),
            "username": format!("cdnow-{customer}"),
        },
    }))
}

fn place(purchase: &Purchase) -> String {
    line(&json!({
        "aggregate": "orders",
        "id": purchase.order_id(),
        "command": "place",
        "idempotency_key": format!("cdnow-order-{}-{}", purchase.customer, purchase.index),
        "data": {
            "account_id": purchase.account_id(),
            "quantity": purchase.quantity,
            "amount_cents": purchase.amount_cents,
            "currency": "USD",
            "placed_at": format!("{}T00:00:00Z", purchase.date),
        },
    }))
}

fn line(command: &serde_json::Value) -> String {
    format!("{command}\n")
}

/// A line of the answer. The last one is about no line of the request.
#[derive(Deserialize)]
struct Answered {
    line: Option<u64>,
    status: Option<u16>,
}

/// Counts what is accepted, up to the first line that is not. Returns what to say if some are left: whatever
/// sending again may help with.
async fn read(mut answer: Response, mut accepted: impl FnMut()) -> Result<String> {
    if !answer.status().is_success() {
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        return worth_retrying(status.as_u16(), format!("{status}: {text}"));
    }
    let mut received = Vec::new();
    loop {
        match timeout(PATIENCE, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => received.extend_from_slice(&chunk),
            Ok(Ok(None)) => return Ok("the answer was cut off".to_owned()),
            Ok(Err(error)) => return Ok(http::chain(&error)),
            Err(_) => return Ok("no result".to_owned()),
        }
        let end = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        for text in received.drain(..end).as_slice().split_inclusive(|byte| *byte == b'\n') {
            let Answered { line, status } = serde_json::from_slice(text).context("unreadable result")?;
            match (line, status) {
                (Some(_), Some(200 | 201)) => accepted(),
                (Some(_), Some(status)) => {
                    return worth_retrying(status, String::from_utf8_lossy(text).into());
                }
                _ => return Ok(String::from_utf8_lossy(text).into()),
            }
        }
    }
}

/// The problem, if it may have passed next time.
fn worth_retrying(status: u16, problem: String) -> Result<String> {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
            Ok(problem)
        }
        _ => bail!("a command was answered with {problem}"),
    }
}
