//! A projector that folds what cannot all be folded, and what becomes of that.

use domain::view::Definition;
use projector::{Manager, Settings, UnknownEvents, Verify, Which};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::ALL;
use crate::{
    harness::{Answer, Call, Place, Servers, Service, until},
    written_log::Log,
};

/// A log written by hand, and a projector that folds it.
pub struct Scene {
    pub place: Place,
    pub log: Log,
    pub projector: Service,
}

impl Scene {
    pub async fn of(views: &'static [Definition]) -> Self {
        let place = Place::new(Servers::shared().await).await;
        let log = Log::at(&place).await;
        let projector = place.projector_of(views).await;
        Self { place, log, projector }
    }

    /// Another program takes the projector's place.
    pub async fn becomes(&mut self, views: &'static [Definition]) {
        self.projector.stop().await;
        self.projector = self.place.projector_of(views).await;
    }

    /// Every view has reached the end of the log.
    pub async fn folded(&self) {
        let head = i64::try_from(self.log.head.position).unwrap();
        let mut database = self.place.database().await;
        until("every view is folded up to the end of the log", async || {
            let least =
                "select min(c.position) from checkpoints c join views v on (name, v.build) = (view, c.build)";
            sqlx::query_scalar::<_, i64>(least).fetch_one(&mut database).await.unwrap() == head
        })
        .await;
    }

    /// The rows of a query, as JSON.
    pub async fn rows(&self, select: &str) -> Vec<Value> {
        let sql = format!("select to_json(r)::text from ({select}) r");
        let mut database = self.place.database().await;
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut database).await.unwrap();
        rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.place.database().await).await.unwrap();
    }

    /// Some columns of an account's row; null without one.
    pub async fn account(&self, id: u128, columns: &str) -> Value {
        let id = Uuid::from_u128(id);
        self.rows(&format!("select {columns} from accounts where id = '{id}'"))
            .await
            .pop()
            .unwrap_or_default()
    }

    pub async fn customer(&self, id: u128) -> Value {
        let id = Uuid::from_u128(id);
        let select = format!("select orders, spent_cents from customers where id = '{id}'");
        self.rows(&select).await.pop().unwrap_or_default()
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer =
            Call::new(reqwest::Client::new().get(format!("{}{path}", self.projector.url))).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body
    }

    /// View, key, position and held events of all that is in quarantine.
    pub async fn quarantine(&self) -> Vec<(String, String, u64, u64)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entry = |entry: &Value| {
            let number = |name: &str| entry[name].as_u64().unwrap();
            (text(&entry["view"]), text(&entry["key"]), number("position"), number("held"))
        };
        let list = self.get("/quarantine").await;
        let mut entries: Vec<_> = list.as_array().unwrap().iter().map(entry).collect();
        entries.sort();
        entries
    }

    pub fn post(&self, view: &str, key: &str, what: &str) -> Call {
        let key = key.replace(':', "%3A");
        Call::new(
            reqwest::Client::new().post(format!("{}/quarantine/{view}/{key}/{what}", self.projector.url)),
        )
    }

    pub async fn retry(&self, view: &str, key: &str) -> Answer {
        self.post(view, key, "retry").send().await
    }

    pub async fn released(&self, view: &str, key: &str) {
        let answer = self.retry(view, key).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({"outcome": "released"})));
    }

    pub async fn skipped(&self, view: &str, key: &str, reason: &str) {
        let answer = self.post(view, key, "skip").json(&json!({"reason": reason})).send().await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({"outcome": "released"})));
    }

    /// Every row is what the log folds to. Gives the number of keys in quarantine.
    pub async fn equals_the_log(&self) -> usize {
        let report = replay::verify(&self.log.log, &self.place.database_url, |_| ()).await.unwrap();
        assert!(report.differences.is_empty(), "{report:?}");
        report.views.iter().map(|view| view.quarantined).sum()
    }

    pub fn manager(&self) -> Manager {
        Manager::new(&self.place.database_url_as("projector"), ALL).unwrap()
    }

    /// Folds another build of the view, and switches to it.
    pub async fn rebuilt(&self, view: &str, accept_quarantine: bool) -> anyhow::Result<projector::Rebuilt> {
        let settings = Settings {
            which: Which::New,
            unknown_events: UnknownEvents::Quarantine,
            verify: Verify::Full,
            accept_quarantine,
            replaced_log: false,
            bytes_max: projector::REBUILD_BYTES_MAX,
        };
        self.manager().rebuild(&self.log.log, view, settings, &|_| ()).await
    }
}

pub fn id(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

pub fn entry(view: &str, key: impl ToString, position: u64, held: u64) -> (String, String, u64, u64) {
    (view.to_owned(), key.to_string(), position, held)
}

pub fn account_key(id: u128) -> String {
    format!("account:{}", self::id(id))
}

pub fn order_key(id: u128) -> String {
    format!("order:{}", self::id(id))
}
