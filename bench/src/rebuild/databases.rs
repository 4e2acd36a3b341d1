//! The databases that views are rebuilt in, one after the other.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stack::servers::Postgres;
use stack::services;

use crate::contestants::Site;

const DATABASE: &str = "rebuild";

pub struct Databases {
    /// A connection to a database that nothing is rebuilt in.
    admin: PgConnection,
    /// Our services' programs, of which the projector makes the tables.
    pub binaries: PathBuf,
    log: PathBuf,
    postgres: Postgres,
}

impl Databases {
    pub async fn start(site: &Site) -> Result<Self> {
        let postgres = site.postgres().await?;
        Ok(Self {
            admin: connect(&postgres.url()).await?,
            binaries: services::find_or_build(&[services::PROJECTOR]).await?,
            log: site.log_file(services::PROJECTOR),
            postgres,
        })
    }

    /// Of the postmaster.
    pub fn pid(&self) -> u32 {
        self.postgres.pid()
    }

    /// Of the database that [`Self::renew`] made.
    pub fn url(&self) -> String {
        self.postgres.database_url(DATABASE)
    }

    /// To the database that [`Self::renew`] made.
    pub async fn connect(&self) -> Result<PgConnection> {
        connect(&self.url()).await
    }

    /// Makes the tables of the views anew, in a database that replaces the one before.
    pub async fn renew(&mut self) -> Result<()> {
        self.run(format!("drop database if exists {DATABASE} with (force)")).await?;
        self.run(format!("create database {DATABASE}")).await?;
        services::migrate(&self.binaries, &self.url(), &self.log).await?;
        // What one contestant has left to write is not for the next.
        self.run("checkpoint".to_owned()).await
    }

    async fn run(&mut self, statement: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut self.admin).await?;
        Ok(())
    }
}

async fn connect(url: &str) -> Result<PgConnection> {
    PgConnection::connect(url).await.context("cannot connect to Postgres")
}
