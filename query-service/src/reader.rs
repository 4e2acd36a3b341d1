//! Reads views: finds the view, checks the query against its catalog, waits for the position that was asked
//! for, and runs the one statement that answers. A cache will stand between the check and the statement.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderValue;
use service_kit::{Problem, Shutdown};
use sqlx::{Row, postgres::PgRow};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    catalog::{Catalog, View},
    cursor,
    database::{Database, ReadError, overloaded},
    freshness::{Freshness, LOG_POSITION},
    parameters::Parameters,
    positions::Positions,
    problems::{RETRY_AFTER_S, UNKNOWN_VIEW, VIEW_BEHIND, views_unavailable},
    query::{Count, ListQuery, RowQuery},
    sql::{self, Statement},
    watcher::{Known, POLL_EVERY},
};

/// How long a query that met a switched view waits for the new catalog.
const CATALOG_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Reader {
    pub database: Database,
    pub known: watch::Receiver<Known>,
    pub positions: Arc<Positions>,
    pub reload: Arc<Notify>,
    pub shutdown: Shutdown,
}

/// One row, as the bytes of a JSON object; `None` if there is none.
#[derive(Debug)]
pub struct RowAnswer {
    pub position: i64,
    pub item: Option<String>,
}

/// Rows, as JSON objects separated by commas.
#[derive(Debug)]
pub struct ListAnswer {
    pub position: i64,
    pub items: String,
    /// Absent when there is no more.
    pub next_cursor: Option<String>,
    /// How many rows fit on all pages, if that was asked.
    pub count: Option<Count>,
}

impl Reader {
    pub async fn row(
        &self,
        view: &str,
        key: &str,
        parameters: &Parameters,
        freshness: Option<Freshness>,
    ) -> Result<RowAnswer, Problem> {
        let plan = |view: &View| {
            let query = RowQuery::parse(view, key, parameters)?;
            Ok((sql::row(view, &query), ()))
        };
        let (_, (), row) = self.read(view, freshness, plan).await?;
        let item = row.try_get("item").map_err(Problem::internal)?;
        Ok(RowAnswer { position: position(&row)?, item })
    }

    pub async fn list(
        &self,
        view: &str,
        parameters: &Parameters,
        freshness: Option<Freshness>,
    ) -> Result<ListAnswer, Problem> {
        let plan = |view: &View| {
            let query = ListQuery::parse(view, parameters)?;
            Ok((sql::list(view, &query), query))
        };
        let (view, query, row) = self.read(view, freshness, plan).await?;
        let items: Option<String> = row.try_get("items").map_err(Problem::internal)?;
        let next_cursor = next_cursor(&view, &query, &row).map_err(Problem::internal)?;
        let counted: Option<i64> = row.try_get("counted").map_err(Problem::internal)?;
        let count = counted.map(Count::of);
        Ok(ListAnswer { position: position(&row)?, items: items.unwrap_or_default(), next_cursor, count })
    }

    /// The catalog, even while the database is away.
    pub fn catalog(&self) -> Result<Arc<Catalog>, Problem> {
        self.known.borrow().catalog().cloned()
    }

    /// Plans and reads; a view that was switched meanwhile is planned once more.
    async fn read<Q>(
        &self,
        name: &str,
        freshness: Option<Freshness>,
        plan: impl Fn(&View) -> Result<(Statement, Q), Problem>,
    ) -> Result<(Arc<View>, Q, PgRow), Problem> {
        for is_last_attempt in [false, true] {
            let mut known = self.known.clone();
            let view = find_view(&known.borrow_and_update(), name)?;
            let (statement, query) = plan(&view)?;
            match self.fetch_fresh(&view, &statement, freshness).await {
                Ok(row) => return Ok((view, query, row)),
                Err(Failure::OutOfDate) if !is_last_attempt => {
                    self.reload.notify_one();
                    // Whatever comes of it, the second attempt answers.
                    let _ = timeout(CATALOG_WAIT, known.changed()).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(ReadError::OutOfDate.into())
    }

    /// Runs the statement when the view has, as far as is known, reached the position; whether it has is
    /// for the answer's own snapshot to say.
    async fn fetch_fresh(
        &self,
        view: &View,
        statement: &Statement,
        freshness: Option<Freshness>,
    ) -> Result<PgRow, Failure> {
        let Some(asked) = freshness else { return self.fetch(statement).await };
        let deadline = Instant::now() + asked.wait;
        loop {
            self.wait_for(view, asked, deadline).await?;
            let row = self.fetch(statement).await?;
            let reached = position(&row)?;
            if reached >= asked.position {
                return Ok(row);
            }
            if Instant::now() >= deadline || self.shutdown.is_cancelled() {
                return Err(behind(view, asked, reached).into());
            }
            // The news was ahead of the database; do not ask it again at once.
            sleep_until((Instant::now() + POLL_EVERY).min(deadline)).await;
        }
    }

    /// Returns at the deadline at the latest.
    async fn wait_for(&self, view: &View, asked: Freshness, deadline: Instant) -> Result<(), Problem> {
        let Some(mut position) = self.positions.follow(&view.name) else { return Ok(()) };
        if *position.borrow() >= asked.position || Instant::now() >= deadline {
            return Ok(());
        }
        let Some(_place) = self.positions.wait() else {
            return Err(overloaded("Too many queries are waiting for a position."));
        };
        tokio::select! {
            _ = position.wait_for(|position| *position >= asked.position) => {}
            () = sleep_until(deadline) => {}
            () = self.shutdown.cancelled() => {}
        }
        Ok(())
    }

    async fn fetch(&self, statement: &Statement) -> Result<PgRow, Failure> {
        match self.database.fetch(statement).await {
            Ok(Some(row)) => Ok(row),
            // The registry names another version of the view by now.
            Ok(None) | Err(ReadError::OutOfDate) => Err(Failure::OutOfDate),
            Err(error) => {
                // While the database is away no connection comes free either; say what is the matter.
                let trouble = self.known.borrow().trouble.clone();
                let trouble = trouble.filter(|_| matches!(error, ReadError::Busy));
                Err(trouble.map_or_else(|| error.into(), |trouble| views_unavailable(&trouble)).into())
            }
        }
    }
}

impl Known {
    fn catalog(&self) -> Result<&Arc<Catalog>, Problem> {
        self.catalog.as_ref().ok_or_else(|| {
            views_unavailable(self.trouble.as_deref().unwrap_or("The catalog has not been read yet."))
        })
    }
}

/// The view, if it can be read at the moment.
fn find_view(known: &Known, name: &str) -> Result<Arc<View>, Problem> {
    let catalog = known.catalog()?;
    let view = catalog.view(name).ok_or_else(|| unknown_view(catalog, name))?;
    match &known.trouble {
        Some(trouble) => Err(views_unavailable(trouble)),
        None => Ok(view.clone()),
    }
}

/// What `read` tells apart.
enum Failure {
    OutOfDate,
    Problem(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OutOfDate => ReadError::OutOfDate.into(),
            Failure::Problem(problem) => problem,
        }
    }
}

fn position(row: &PgRow) -> Result<i64, Problem> {
    row.try_get("position").map_err(Problem::internal)
}

fn next_cursor(view: &View, query: &ListQuery, row: &PgRow) -> Result<Option<String>, sqlx::Error> {
    let found: i64 = row.try_get("found")?;
    if found <= i64::from(query.limit) {
        return Ok(None);
    }
    let place = (1..=query.order.len())
        .map(|i| row.try_get(format!("place_{i}").as_str()))
        .collect::<Result<Vec<String>, _>>()?;
    Ok(Some(cursor::encode(&place, &query.identity(view))))
}

fn unknown_view(catalog: &Catalog, name: &str) -> Problem {
    let names: Vec<&str> = catalog.views.keys().map(AsRef::as_ref).collect();
    let detail = format!("There is no view `{name}`; there are {}.", names.join(", "));
    Problem::new(UNKNOWN_VIEW, detail).accepted(names)
}

fn behind(view: &View, asked: Freshness, reached: i64) -> Problem {
    let detail =
        format!("`{}` has reached position {reached}; at least {} was asked for.", view.name, asked.position);
    Problem::new(VIEW_BEHIND, detail)
        .field("Min-Position")
        .header(LOG_POSITION, HeaderValue::from(reached))
        .retry_after(RETRY_AFTER_S)
}
