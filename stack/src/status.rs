//! `stack status`: what a running stack runs where, and how each part is.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures::future::join_all;
use reqwest::Url;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::backing::POSTGRES;
use crate::endpoints::{Endpoints, Instance};
use crate::metrics::{Metrics, Scraper};
use crate::services::{COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER};
use crate::{http, readiness};

const HEADER: [&str; 8] = ["NAME", "REGION", "URL", "PID", "HEALTH", "POSITION", "LAG", "LOAD"];

/// Prints a line for each process, and below it what is wrong.
pub async fn status(data: &Path) -> Result<()> {
    let endpoints = Endpoints::read(data)?;
    println!("{}", table(&endpoints).await);
    Ok(())
}

async fn table(endpoints: &Endpoints) -> String {
    let scraper = Scraper::new();
    let looks = endpoints.instances.iter().map(|instance| Look::at(instance, &scraper, &endpoints.postgres));
    let looks = join_all(looks).await;
    let head = looks.iter().filter_map(|look| look.metrics.as_ref()?.log_position()).max_by(f64::total_cmp);
    let rows: Vec<[String; 8]> =
        endpoints.instances.iter().zip(&looks).map(|(instance, look)| row(instance, look, head)).collect();
    let troubles = endpoints.instances.iter().zip(&looks).filter_map(|(instance, look)| {
        Some(format!("{} is not well: {}", instance.name, look.trouble.as_ref()?))
    });
    aligned(&rows).into_iter().chain(troubles).collect::<Vec<_>>().join("\n")
}

/// What one process said when it was asked.
struct Look {
    /// Why it is not well.
    trouble: Option<String>,
    is_writer: bool,
    metrics: Option<Metrics>,
    /// Up to where the views in a database are folded: what a standby lacks, it lacks of this.
    folded: Option<f64>,
}

impl Look {
    async fn at(instance: &Instance, scraper: &Scraper, primary: &str) -> Self {
        let is_ours = [COMMAND_SERVICE, QUERY_SERVICE, PROJECTOR, TASK_WORKER].contains(&&*instance.program);
        let metrics = if is_ours { scraper.scrape(&instance.url).await } else { None };
        let is_writer = instance.program == COMMAND_SERVICE && {
            let answer = http::client().get(format!("{}/health/writer", instance.url));
            answer
                .timeout(readiness::CHECK_WITHIN)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
        };
        let mut trouble = trouble(instance).await;
        let folded = if instance.program == POSTGRES && trouble.is_none() {
            let folded = timeout(readiness::CHECK_WITHIN, folded(&instance.url, primary)).await;
            let folded = folded.context("it does not answer").flatten();
            folded.inspect_err(|error| trouble = Some(format!("{error:#}"))).ok()
        } else {
            None
        };
        Self { trouble, is_writer, metrics, folded }
    }
}

/// A standby knows the primary's password.
async fn folded(url: &str, primary: &str) -> Result<f64> {
    let mut url = Url::parse(url)?;
    let _ = url.set_password(Url::parse(primary)?.password());
    let mut database = PgConnection::connect(url.as_str()).await?;
    let sql = "select coalesce(min(position), 0) from checkpoints join views on name = view and views.build = checkpoints.build";
    let position: i64 = sqlx::query_scalar(sql).fetch_one(&mut database).await?;
    database.close().await?;
    Ok(position as f64)
}

async fn trouble(instance: &Instance) -> Option<String> {
    match (&instance.pid, &instance.health_url) {
        (None, _) => Some("it is being started again".to_owned()),
        (Some(_), Some(url)) => readiness::health(url).await.err(),
        (Some(_), None) => None,
    }
}

fn row(instance: &Instance, look: &Look, head: Option<f64>) -> [String; 8] {
    let health = match (&look.trouble, look.is_writer) {
        (Some(_), _) => "NOT WELL",
        (None, true) => "writer",
        (None, false) => "ready",
    };
    let metrics = look.metrics.as_ref();
    let position = metrics.and_then(|metrics| match instance.program.as_str() {
        COMMAND_SERVICE => metrics.log_position(),
        QUERY_SERVICE => metrics.least("headwater_known_position"),
        PROJECTOR => metrics.least("headwater_view_position"),
        TASK_WORKER => metrics.least("headwater_planner_lag_events").and_then(|lag| Some(head? - lag)),
        _ => None,
    });
    let position = position.or(look.folded);
    let lag = position.and_then(|position| Some((head? - position).max(0.0)));
    let load = metrics.and_then(|metrics| match instance.program.as_str() {
        TASK_WORKER => Some(format!("{:.0} wait", metrics.total("headwater_tasks_waiting"))),
        _ => metrics.least("headwater_load_pressure").map(|pressure| format!("{:.0} %", 100.0 * pressure)),
    });
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number = |value: Option<f64>| shown(value.map(|value| format!("{value:.0}")));
    [
        instance.name.clone(),
        instance.region.clone(),
        instance.url.clone(),
        shown(instance.pid.map(|pid| pid.to_string())),
        health.to_owned(),
        number(position),
        number(lag),
        shown(load),
    ]
}

/// Each column as wide as its widest cell.
fn aligned(rows: &[[String; 8]]) -> Vec<String> {
    let header = HEADER.map(ToOwned::to_owned);
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<usize> =
        (0..HEADER.len()).map(|column| all().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let row = ["a-long-name", "eu", "http://127.0.0.1:1", "7", "ready", "12", "0", "3 %"];
        let lines = aligned(&[row.map(ToOwned::to_owned)]);
        assert_eq!(lines[0].find("REGION"), lines[1].find("eu"));
        assert_eq!(lines[0].find("LOAD"), lines[1].find("3 %"));
    }
}
