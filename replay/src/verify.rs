//! Folds the whole log anew, and compares: the views with the fold, and the log with its own rules.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use domain::{
    Recorded,
    view::{Definition, Fold, LeftOut, aggregate_key},
};
use event_log::{Checkpoint, EventLog, FollowError};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    reading::{Events, Source, recorded},
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
    /// Keys in quarantine: their rows are compared with the log up to the event that could not be applied.
    pub quarantined: usize,
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
pub async fn verify(
    source: impl Into<Source>,
    database_url: &str,
    progress: impl Fn(u64),
) -> anyhow::Result<Report> {
    let source = source.into();
    let mut views = snapshot(database_url).await.context("the views cannot be read")?;
    let mut report = Report::default();
    for view in &views {
        report.log_problems.extend(view.other_log(&source.log).await?);
    }
    let mut rules = Rules::default();
    let mut events = Events::from_start(&source);
    while let Some(envelope) = events.available().await? {
        let recorded = recorded(&envelope);
        let event = recorded.as_ref().ok().map(|recorded| &recorded.event);
        let broken = rules.broken_by(&envelope, event);
        report
            .log_problems
            .extend(broken.iter().map(|problem| format!("event {} {problem}", envelope.position)));
        match recorded {
            Ok(recorded) => views.iter_mut().for_each(|view| view.apply(&recorded)),
            Err(error) => report.log_problems.push(error.to_string()),
        }
        report.events = envelope.position;
        progress(envelope.position);
    }
    for view in views {
        let (name, position) = (view.definition.name, view.checkpoint.position);
        if position > report.events {
            bail!("the view {name} is folded up to {position}, beyond the end of the log");
        }
        let quarantined = view.left_out.held();
        report.views.push(ViewReport { view: name, position, rows: view.rows.len(), quarantined });
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
    left_out: LeftOut,
}

impl View {
    /// Folds an event, if the view is that far.
    fn apply(&mut self, recorded: &Recorded) {
        if recorded.position > self.checkpoint.position {
            return;
        }
        let touch = (self.definition.touches)(recorded);
        if self.left_out.is_empty() {
            self.fold.apply(recorded, &touch);
            return;
        }
        let aggregate = aggregate_key(recorded.event.kind().name(), recorded.id);
        if self.left_out.leaves_out(recorded.position, &aggregate) {
            return;
        }
        for key in self.fold.touched(&touch) {
            if !self.left_out.leaves_out(recorded.position, &key) {
                self.fold.apply_to(&key, recorded);
            }
        }
    }

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
        for change in self.fold.changes(&self.fold.changed())? {
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
        let (build, table, key, position, sequence, id): Registered = sqlx::query_as(
            "select v.build, quote_ident(table_name), quote_ident(key_column), position, frame_sequence, frame_id::text
             from views v join checkpoints c on c.view = v.name and c.build = v.build where v.name = $1",
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
        let left_out = left_out(&mut snapshot, definition.name, build).await?;
        views.push(View { definition, checkpoint, rows, fold: (definition.fold)(), left_out });
    }
    snapshot.rollback().await?;
    Ok(views)
}

type Registered = (i32, String, String, i64, i64, Option<String>);

/// What the projector leaves out of the view.
async fn left_out(connection: &mut PgConnection, view: &str, build: i32) -> anyhow::Result<LeftOut> {
    let held = sqlx::query_as("select position, key from quarantine where view = $1 and build = $2");
    let held: Vec<(i64, String)> = held.bind(view).bind(build).fetch_all(&mut *connection).await?;
    let skipped = sqlx::query_as("select position, key from skipped_events where view = $1");
    let skipped: Vec<(i64, String)> = skipped.bind(view).fetch_all(connection).await?;
    let mut left_out = LeftOut::default();
    held.into_iter().for_each(|(position, key)| left_out.hold(key, position.cast_unsigned()));
    skipped.into_iter().for_each(|(position, key)| left_out.skip(position.cast_unsigned(), key));
    Ok(left_out)
}
