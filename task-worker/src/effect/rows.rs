//! Looks rows up as clients do: narrow, from the query-service.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Map, Value};
use service_kit::{
    client::Client,
    trace::{self, TRACEPARENT},
};
use url::Url;

use super::EffectError;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// No row is near so large.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long the query-service may wait until the view shows the event that the task is owed for, in seconds.
const WAIT_SECONDS: u32 = 5;

pub type Row = Map<String, Value>;

/// The rows of all views.
pub struct Rows {
    client: Client,
    url: Url,
    /// Where the token is, if one is needed.
    token_file: Option<PathBuf>,
}

impl Rows {
    /// An error if it cannot be asked there, or if there is no token where there should be one.
    pub fn new(url: Url, token_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let client = Client::for_scheme(url.scheme()).context("--query-url")?;
        if let Some(file) = &token_file {
            std::fs::read_to_string(file).with_context(|| unreadable(file))?;
        }
        Ok(Self { client, url, token_file })
    }

    /// As it is now: whoever issues it puts a new one there before it expires.
    async fn token(&self) -> Result<Option<String>, EffectError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let token = tokio::fs::read_to_string(file).await;
        let token =
            token.map_err(|error| EffectError::Unavailable(format!("{}: {error}", unreadable(file))))?;
        Ok(Some(token.trim().to_owned()))
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
        let mut request = Request::get(url.as_str())
            .header("Min-Position", position)
            .header("Prefer", format!("wait={WAIT_SECONDS}"));
        if let Some(token) = self.token().await? {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(span) = trace::current() {
            request = request.header(TRACEPARENT, trace::traceparent(&span));
        }
        let not_now =
            |error: &dyn std::fmt::Display| EffectError::NotNow(format!("the query-service: {error}"));
        let request = request.body(Body::empty()).map_err(|error| {
            EffectError::Unavailable(format!("the query-service cannot be asked: {error}"))
        })?;
        let answer = self.client.ask(request, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|error| not_now(&format_args!("{error:#}")))?;
        match answer.status() {
            StatusCode::OK => {
                serde_json::from_slice(answer.body()).map(Some).map_err(|error| not_now(&error))
            }
            StatusCode::NOT_FOUND => Ok(None),
            // The next token may be taken; no task is lost for want of one.
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let detail = "--query-token-file has to name a token that may read the view";
                Err(EffectError::Unavailable(format!(
                    "the query-service answers {status} for {view}: {detail}"
                )))
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(EffectError::NotNow(format!("the query-service answers {status}")))
            }
            status => {
                Err(EffectError::Refused(format!("the query-service answers {status} for {view}/{key}")))
            }
        }
    }
}

fn unreadable(file: &Path) -> String {
    format!("the token for the query-service cannot be read from {} (--query-token-file)", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_speak_is_refused_at_the_start_and_not_for_every_task() {
        let error = Rows::new("ftp://queries.example".parse().unwrap(), None).err().unwrap();
        assert!(format!("{error:#}").contains("--query-url: expected a URL of http://"), "{error:#}");
        assert!(Rows::new("http://queries.example".parse().unwrap(), None).is_ok());
    }
}
