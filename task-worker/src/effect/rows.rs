//! Looks rows up as clients do: narrow, from the query-service.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde_json::{Map, Value};
use service_kit::trace::{self, TRACEPARENT};

use super::EffectError;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the query-service may wait until the view shows the event that the task is owed for, in seconds.
const WAIT_SECONDS: u32 = 5;

pub type Row = Map<String, Value>;

/// The rows of all views.
pub struct Rows {
    client: Client,
    url: Url,
}

impl Rows {
    pub fn new(url: Url) -> anyhow::Result<Self> {
        Ok(Self { client: Client::builder().timeout(TIMEOUT).build()?, url })
    }

    /// Some columns of a row, as it is at `position` or later; none if there is no such row.
    pub async fn row(
        &self,
        view: &str,
        key: &str,
        columns: impl Iterator<Item = &String>,
        position: u64,
    ) -> Result<Option<Row>, EffectError> {
        let columns: Vec<&str> = columns.map(String::as_str).collect();
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| EffectError::Refused("the URL of the query-service has no path".into()))?
            .pop_if_empty()
            .extend([view, key]);
        url.query_pairs_mut().append_pair("fields", &columns.join(","));
        let mut request = self
            .client
            .get(url)
            .header("Min-Position", position)
            .header("Prefer", format!("wait={WAIT_SECONDS}"));
        if let Some(span) = trace::current() {
            request = request.header(TRACEPARENT, trace::traceparent(&span));
        }
        let not_now = |error: reqwest::Error| EffectError::NotNow(format!("the query-service: {error}"));
        let answer = request.send().await.map_err(not_now)?;
        match answer.status() {
            StatusCode::OK => answer.json().await.map(Some).map_err(not_now),
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(EffectError::NotNow(format!("the query-service answers {status}")))
            }
            status => {
                Err(EffectError::Refused(format!("the query-service answers {status} for {view}/{key}")))
            }
        }
    }
}
