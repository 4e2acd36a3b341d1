//! What is read: a log, the views that the projector folds from it, and the programs around them.

use anyhow::Result;
use event_log::EventLog;
use sqlx::{Connection as _, PgConnection};
use stack::servers::Postgres;
use stack::services;
use uuid::Uuid;

use crate::contestants::{NAMESPACE, Service, Site};
use crate::random::Random;
use crate::{checkpoints, fill};

/// Of a history's events, one in four registers an account.
const EVENTS_PER_ACCOUNT: u64 = 4;

pub struct Shop {
    pub site: Site,
    pub postgres: Postgres,
    /// In no order.
    pub accounts: Vec<Uuid>,
    /// Events in the log.
    pub events: u64,
    pub projector: Service,
}

impl Shop {
    /// With so many accounts, and 2.8 times as many orders, of which some are cancelled.
    pub async fn open(accounts: u64) -> Result<Self> {
        eprintln!("filling a log, and folding all views from it: {accounts} accounts");
        let site = Site::start(1).await?;
        let events = accounts * EVENTS_PER_ACCOUNT;
        fill::history(&EventLog::new(site.client().await?, NAMESPACE), events, fill::EVENTS_PER_FRAME)
            .await?;
        Self::over(site, events, &[]).await
    }

    /// With so many accounts, and nothing else.
    pub async fn of_accounts_alone(accounts: usize) -> Result<Self> {
        eprintln!("filling a log, and folding a view from it: {accounts} accounts");
        let site = Site::start(1).await?;
        fill::accounts(&EventLog::new(site.client().await?, NAMESPACE), accounts).await?;
        Self::over(site, accounts as u64, &["accounts"]).await
    }

    /// Folds `views`, or all if none are named, to the end of a log that is filled.
    async fn over(site: Site, events: u64, views: &[&str]) -> Result<Self> {
        let postgres = site.postgres().await?;
        let binaries = services::find_or_build(&[services::PROJECTOR]).await?;
        services::migrate(&binaries, &postgres.url(), &site.log_file(services::PROJECTOR)).await?;
        let projector = site.projector(postgres.url(), views).await?;
        let mut database = PgConnection::connect(&postgres.url()).await?;
        let all: Vec<&str> = domain::views::ALL.iter().map(|view| view.name).collect();
        let awaited = if views.is_empty() { &all } else { views };
        projector.until(checkpoints::reach(&mut database, awaited, events)).await?;
        // What is left to do after so much was written is not to be done while reads are measured.
        for statement in ["vacuum analyze", "checkpoint"] {
            sqlx::raw_sql(statement).execute(&mut database).await?;
        }
        let ids = sqlx::query_scalar("select id::text from accounts order by id");
        let ids: Vec<String> = ids.fetch_all(&mut database).await?;
        let mut accounts = ids.iter().map(|id| Ok(id.parse()?)).collect::<Result<Vec<Uuid>>>()?;
        Random::new(0).shuffle(&mut accounts);
        Ok(Self { site, postgres, accounts, events, projector })
    }

    /// A query-service without or with a cache, in mebibytes.
    pub async fn query_service(&self, cache_mib: u64) -> Result<Service> {
        self.query_service_with(cache_mib, &[]).await
    }

    /// The same with more settings.
    pub async fn query_service_with(&self, cache_mib: u64, more: &[(&'static str, &str)]) -> Result<Service> {
        let cache_mib = cache_mib.to_string();
        let settings: Vec<_> = [(CACHE, &*cache_mib)].into_iter().chain(more.iter().copied()).collect();
        self.site.query_service(self.postgres.url(), &settings).await
    }

    /// A query-service that reads from a standby first.
    pub async fn query_service_beside(&self, standby: &Postgres) -> Result<Service> {
        self.site.query_service(self.postgres.url(), &[(STANDBY, &standby.url())]).await
    }
}

const CACHE: &str = "HEADWATER_QUERY_CACHE_MIB";
const STANDBY: &str = "HEADWATER_STANDBY_URL";
