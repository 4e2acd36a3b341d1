//! What a person does to views by hand: rebuild, go back, drop, look.

use std::str::FromStr;

use anyhow::{Context, bail};
use domain::view::Definition;
use event_log::EventLog;
use sqlx::{PgConnection, postgres::PgConnectOptions};

use crate::{
    config::find,
    instance,
    registry::{self, Build},
    view::{Progress, Rebuild, Rebuilt, Settings, connect, lock_unused},
};

/// A database of views, and the log that they are folded from.
pub struct Manager {
    options: PgConnectOptions,
    views: &'static [Definition],
    me: String,
}

impl Manager {
    pub fn new(database_url: &str, views: &'static [Definition]) -> anyhow::Result<Self> {
        let options =
            PgConnectOptions::from_str(database_url).context("the URL of the database cannot be used")?;
        Ok(Self { options, views, me: format!("by hand, {}", instance()) })
    }

    /// A session with the database.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(connect(&self.options, "by hand").await?)
    }

    /// Folds another build of a view, and puts it in the place of the one in use.
    pub async fn rebuild(
        &self,
        log: &EventLog,
        view: &str,
        settings: Settings,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> anyhow::Result<Rebuilt> {
        let rebuild = Rebuild {
            options: self.options.clone(),
            log,
            definition: find(self.views, view)?,
            settings,
            me: &self.me,
            progress,
        };
        let mut connection = self.connect().await?;
        Ok(rebuild.run(&mut connection).await?)
    }

    /// The builds of each view, or of one.
    pub async fn builds(&self, view: Option<&str>) -> anyhow::Result<Vec<(&'static str, Vec<Build>)>> {
        let views: Vec<&'static Definition> = match view {
            Some(view) => vec![find(self.views, view)?],
            None => self.views.iter().collect(),
        };
        let mut connection = self.connect().await?;
        let mut builds = Vec::new();
        for view in views {
            builds.push((view.name, registry::builds(&mut connection, view.name).await?));
        }
        Ok(builds)
    }

    /// Drops the tables of the builds that are not in use. One that somebody folds at the moment is an error.
    pub async fn drop_builds(&self, view: &str) -> anyhow::Result<Vec<Build>> {
        let view = find(self.views, view)?.name;
        let mut connection = self.connect().await?;
        let mut dropped = Vec::new();
        for build in registry::builds(&mut connection, view).await? {
            if build.is_in_use {
                continue;
            }
            if !lock_unused(&mut connection, view, build.number).await? {
                let by = build.folded_by.unwrap_or_else(|| "somebody".into());
                bail!("build {} of {view} is being folded by {by}; stop that first", build.number);
            }
            registry::drop_build(&mut connection, view, &build).await?;
            dropped.push(build);
        }
        Ok(dropped)
    }
}
