//! Folds the whole log anew, and compares: the views with the fold, and the log with its own rules.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use domain::view::{Definition, Fold};
use event_log::{Checkpoint, EventLog, FollowError};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    events::{Events, recorded},
    rules::Rules,
};

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Events read.
    pub events: u64,
    pub views: Vec<ViewReport>,
    /// Rows that are not what the log folds to.
    pub differences: Vec<Difference>,
    /// Rules of the log that an event breaks.
    pub log_problems: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct ViewReport {
    pub view: &'static str,
    /// The checkpoint that the view was compared at.
    pub position: u64,
    pub rows: usize,
}

/// One row, as the log folds to it and as it stands in the view.
#[derive(Clone, Debug)]
pub struct Difference {
    pub view: &'static str,
    pub key: String,
    pub expected: Option<Value>,
    pub found: Option<Value>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.log_problems.is_empty()
    }
}

/// Compares every view, as it is at this moment, with the fold of the log up to its checkpoint. Says each
/// position that it has reached to `progress`.
pub async fn verify(log: &EventLog, database_url: &str, progress: impl Fn(u64)) -> anyhow::Result<Report> {
    let mut views = snapshot(database_url).await.context("the views cannot be read")?;
    let mut report = Report::default();
    for view in &views {
        report.log_problems.extend(view.other_log(log).await?);
    }
    let mut rules = Rules::default();
    let mut events = Events::from_start(log);
    while let Some(envelope) = events.available().await? {
        let recorded = recorded(&envelope)?;
        let broken = rules.broken_by(&envelope, Some(&recorded.event));
        report
            .log_problems
            .extend(broken.iter().map(|problem| format!("event {} {problem}", recorded.position)));
        for view in views.iter_mut().filter(|view| recorded.position <= view.checkpoint.position) {
            view.fold.apply(&recorded);
        }
        report.events = recorded.position;
        progress(recorded.position);
    }
    for view in views {
        let (name, position) = (view.definition.name, view.checkpoint.position);
        if position > report.events {
            bail!("the view {name} is folded up to {position}, beyond the end of the log");
        }
        report.views.push(ViewReport { view: name, position, rows: view.rows.len() });
        report.differences.extend(view.differences()?);
    }
    Ok(report)
}

/// A view as it stands in the database, beside a fold that should come to the same.
struct View {
    definition: &'static Definition,
    checkpoint: Checkpoint,
    rows: BTreeMap<String, Value>,
    fold: Box<dyn Fold>,
}

impl View {
    /// Why the view was not folded from this very log, if it was not.
    async fn other_log(&self, log: &EventLog) -> anyhow::Result<Option<String>> {
        match log.follow(self.checkpoint).available().await {
            Ok(_) => Ok(None),
            Err(error @ FollowError::Unavailable(_)) => Err(error.into()),
            Err(error) => Ok(Some(format!("the view {}: {error}", self.definition.name))),
        }
    }

    fn differences(mut self) -> anyhow::Result<Vec<Difference>> {
        let view = self.definition.name;
        let mut differences = Vec::new();
        for change in self.fold.changes()? {
            let found = self.rows.remove(&change.key);
            if found != change.after {
                differences.push(Difference { view, key: change.key, expected: change.after, found });
            }
        }
        // What is left stands in the view, and no event made it.
        let left = self.rows.into_iter();
        differences.extend(left.map(|(key, row)| Difference { view, key, expected: None, found: Some(row) }));
        Ok(differences)
    }
}

/// All views at one moment.
async fn snapshot(database_url: &str) -> anyhow::Result<Vec<View>> {
    let mut connection = PgConnection::connect(database_url).await?;
    let mut snapshot = connection.begin_with("begin isolation level repeatable read read only").await?;
    let mut views = Vec::new();
    for definition in domain::views::ALL {
        let (table, key, position, sequence, id): (String, String, i64, i64, Option<String>) = sqlx::query_as(
            "select quote_ident(table_name), quote_ident(key_column), position, frame_sequence, frame_id::text
             from views join checkpoints on view = name where name = $1",
        )
        .bind(definition.name)
        .fetch_optional(&mut *snapshot)
        .await?
        .with_context(|| format!("the view {} is not registered", definition.name))?;
        // Safe: both names were quoted by Postgres.
        let sql = AssertSqlSafe(format!("select {key}::text, row_to_json(stored)::text from {table} stored"));
        let stored: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut *snapshot).await?;
        let rows = stored
            .into_iter()
            .map(|(key, row)| Ok((key, (definition.normalise)(&row)?)))
            .collect::<anyhow::Result<_>>()
            .with_context(|| format!("a row of {} does not fit its view", definition.name))?;
        let checkpoint = Checkpoint {
            position: position.cast_unsigned(),
            frame_sequence: sequence.cast_unsigned(),
            frame_id: id.map(|id| id.parse()).transpose()?,
        };
        views.push(View { definition, checkpoint, rows, fold: (definition.fold)() });
    }
    snapshot.rollback().await?;
    Ok(views)
}
