//! Projectors over one database, each a process of its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{Connection, PgConnection};
use stack::servers::temporary_folder;
use tempfile::TempDir;

use crate::{
    harness::{Place, until},
    instance::Instance,
};

/// One that is frozen does not answer at all.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// While something is appended, transactions follow each other faster than this.
const TRANSACTION_WITHIN: Duration = Duration::from_millis(300);

pub struct Projectors {
    pub all: Vec<Instance>,
    http: reqwest::Client,
    /// Of their log files.
    _folder: TempDir,
}

impl Projectors {
    /// Starts one for each list of views; an empty list means all views.
    pub async fn start<const N: usize>(place: &Place, views: [&str; N]) -> Self {
        let folder = temporary_folder().unwrap();
        let mut all = Vec::new();
        for (number, views) in views.into_iter().enumerate() {
            let log = folder.path().join(format!("projector-{number}.log"));
            all.push(Instance::projector(place, log, views).await);
        }
        Self { all, http: reqwest::Client::new(), _folder: folder }
    }

    /// The views that a projector folds, by what it says itself.
    pub async fn folded_by(&self, projector: usize) -> Vec<String> {
        let request = self.http.get(format!("{}/views", self.all[projector].url)).timeout(ANSWER_WITHIN);
        let Ok(answer) = request.send().await else { return Vec::new() };
        let views: Vec<Value> = answer.json().await.unwrap_or_default();
        let active = views.iter().filter(|view| view["state"] == "active");
        active.map(|view| view["view"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until somebody folds the view, and tells who.
    pub async fn active(&self, view: &str) -> usize {
        let mut found = None;
        until(&format!("somebody folds {view}"), async || {
            for projector in 0..self.all.len() {
                if self.folded_by(projector).await.iter().any(|folded| folded == view) {
                    found = Some(projector);
                }
            }
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until every view is folded, and each projector folds so many.
    pub async fn until_folding<const N: usize>(&self, expected: [usize; N]) {
        let mut views = BTreeMap::new();
        until(&format!("the projectors fold {expected:?} views"), async || {
            let mut counts = [0; N];
            views.clear();
            for (projector, count) in counts.iter_mut().enumerate() {
                let folded = self.folded_by(projector).await;
                *count = folded.len();
                views.extend(folded.into_iter().map(|view| (view, projector)));
            }
            counts == expected && views.len() == domain::views::ALL.len()
        })
        .await;
    }

    /// What they have logged.
    pub fn said(&self) -> String {
        self.all.iter().map(Instance::said).collect()
    }
}

/// Waits until every view is folded up to `position`. The database may be away meanwhile.
pub async fn until_folded(place: &Place, position: u64) {
    until("every view is folded so far", async || {
        positions(place).await.is_some_and(|views| views.values().all(|folded| *folded >= position))
    })
    .await;
}

/// Up to where each view is folded, if the database can be asked.
pub async fn positions(place: &Place) -> Option<BTreeMap<String, u64>> {
    let mut database = PgConnection::connect(&place.database_url).await.ok()?;
    let positions =
        "select c.view, c.position from checkpoints c join views v on v.name = c.view and v.build = c.build";
    let positions: Vec<(String, i64)> = sqlx::query_as(positions).fetch_all(&mut database).await.ok()?;
    Some(positions.into_iter().map(|(view, position)| (view, position as u64)).collect())
}

/// Waits until somebody is in the midst of writing one of the views; not for long, because the load may be over.
/// One that was frozen in between two statements stays there.
pub async fn in_a_transaction(place: &Place, views: &[String]) -> bool {
    let mut database = PgConnection::connect(&place.database_url).await.unwrap();
    let sessions: Vec<String> = views.iter().map(|view| format!("headwater projector {view}")).collect();
    let started = Instant::now();
    while started.elapsed() < TRANSACTION_WITHIN {
        let is_under_way = sqlx::query_scalar(
            "select exists (
                 select from pg_stat_activity
                 where datname = current_database() and application_name = any($1)
                   and (state = 'idle in transaction' or state = 'active' and query like 'insert into%')
             )",
        );
        if is_under_way.bind(&sessions).fetch_one(&mut database).await.unwrap() {
            return true;
        }
    }
    false
}
