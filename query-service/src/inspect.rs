//! How the database serves a request, for whoever wants to know: the plans of the very statements that the
//! service runs, on a connection like its own.

use anyhow::{Context, anyhow};
use serde_json::Value;
use service_kit::Problem;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow};

use crate::{
    Config,
    catalog::{self, Catalog, Owner, View},
    database,
    parameters::Parameters,
    query::{ListQuery, RowQuery},
    sql::{self, RowKey, Statement},
};

/// Plans of a database whose catalog was read when this was opened. Requests are paths like
/// `/orders?sort=-placed_at`.
pub struct Inspector {
    connection: PgConnection,
    catalog: Catalog,
    /// Who asks, if they may see only their own rows.
    subject: Option<String>,
}

impl Inspector {
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let options = database::connect_options(&config.postgres.database_url, &config.bounds)?;
        let mut connection = PgConnection::connect_with(&options).await?;
        let catalog = catalog::load(&mut connection).await?;
        Ok(Self { connection, catalog, subject: None })
    }

    /// From now on asks for somebody who may see only their own rows.
    pub fn ask_for(&mut self, subject: &str) {
        self.subject = Some(subject.to_owned());
    }

    /// What may be asked, as `GET /` answers it.
    pub fn catalog(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.catalog.describe())?)
    }

    /// The plan that serves the request whatever its values, as JSON.
    pub async fn plan(&mut self, request: &str) -> anyhow::Result<Value> {
        let statement = self.statement(request, false)?;
        self.generic_plan(&statement).await
    }

    /// The same for the pages of a list that begin with a cursor.
    pub async fn plan_of_next_page(&mut self, request: &str) -> anyhow::Result<Value> {
        let statement = self.statement(request, true)?;
        self.generic_plan(&statement).await
    }

    /// Serves the request, and says what was done.
    pub async fn run(&mut self, request: &str) -> anyhow::Result<Value> {
        let statement = self.statement(request, false)?;
        let explain = format!("explain (analyze, format json) {}", statement.sql);
        let row = database::bound(&explain, &statement.values).fetch_one(&mut self.connection).await?;
        plan_in(&row)
    }

    async fn generic_plan(&mut self, statement: &Statement) -> anyhow::Result<Value> {
        // Not prepared, because then Postgres would ask for values.
        let explain = AssertSqlSafe(format!("explain (generic_plan, format json) {}", statement.sql));
        let row = sqlx::raw_sql(explain).fetch_one(&mut self.connection).await?;
        plan_in(&row)
    }

    fn statement(&self, request: &str, is_next_page: bool) -> anyhow::Result<Statement> {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let (name, key) = match path.trim_start_matches('/').split_once('/') {
            Some((name, key)) => (name, Some(key)),
            None => (path.trim_start_matches('/'), None),
        };
        let view = self.catalog.view(name).with_context(|| format!("there is no view {name}"))?;
        let refused = |problem: Problem| anyhow!("{request}: {}", problem.detail());
        let parameters = Parameters::parse(query).map_err(refused)?;
        let owner = self.owner(view)?;
        if let Some(key) = key {
            let query = RowQuery::parse(view, key, &parameters, owner.as_ref()).map_err(refused)?;
            let (column, owner) = query.owner.map(|Owner { column, value }| (column, value)).unzip();
            let key = RowKey { key: query.key, owner: owner.unwrap_or_default() };
            return Ok(sql::rows(view, &query.fields, column, vec![key]));
        }
        let mut query = ListQuery::parse(view, &parameters, owner.as_ref()).map_err(refused)?;
        if is_next_page {
            // A plan of whatever values does not look at them.
            query.after = Some(vec![String::new(); query.order.len()]);
        }
        Ok(sql::list(view, &query))
    }

    fn owner(&self, view: &View) -> anyhow::Result<Option<Owner>> {
        let Some(subject) = &self.subject else { return Ok(None) };
        let owner = view.owner_of(subject);
        owner.map(Some).with_context(|| format!("{subject} can own nothing in {}", view.name))
    }
}

fn plan_in(row: &PgRow) -> anyhow::Result<Value> {
    // Unchecked, because it is of the type `json`, which is text.
    let mut plans: Value = serde_json::from_str(row.try_get_unchecked(0)?)?;
    Ok(plans[0]["Plan"].take())
}
