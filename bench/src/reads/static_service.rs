//! The service to compare with: the same framework, and one answer that is always the same. No service that looks
//! anything up can be faster.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::http1::Answer;

/// Headers that the framework adds by itself.
const OF_THE_FRAMEWORK: [&str; 2] = ["content-length", "date"];

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on
    #[arg(long, env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

    /// The answer, in a file
    #[arg(long)]
    answer: PathBuf,
}

/// An answer of another service, to be given again and again.
#[derive(Serialize, Deserialize)]
pub struct StaticAnswer {
    headers: Vec<(String, String)>,
    body: String,
}

impl StaticAnswer {
    pub fn like(answer: &Answer<'_>) -> Result<Self> {
        let headers =
            answer.headers().filter(|(name, _)| !OF_THE_FRAMEWORK.contains(&name.to_lowercase().as_str()));
        Ok(Self {
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: String::from_utf8(answer.body.to_vec())?,
        })
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_vec(self)?).with_context(|| format!("cannot write {}", file.display()))
    }
}

pub async fn serve(options: Options) -> Result<()> {
    let answer: StaticAnswer = serde_json::from_slice(&fs::read(&options.answer)?)?;
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| Ok((HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?)));
    let headers: HeaderMap = headers.collect::<Result<_>>()?;
    let routes = Router::new()
        .route("/accounts/{id}", get(always_the_same))
        .route("/health/ready", get(|| async { "ready\n" }))
        .with_state((headers, Bytes::from(answer.body)));
    axum::serve(TcpListener::bind(options.listen).await?, routes).await?;
    Ok(())
}

async fn always_the_same(State((headers, body)): State<(HeaderMap, Bytes)>) -> Response {
    (headers, body).into_response()
}
