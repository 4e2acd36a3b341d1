//! Django with the Django REST framework, psycopg 3 and gunicorn, over Postgres.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use stack::program;

use super::packages;
use crate::contestants::{Service, Site};

const DJANGO: &str = "django";

/// For [`start`]: no answer comes from Django's cache.
pub const NOT_CACHED: u32 = 0;

pub async fn install() -> Result<()> {
    packages::pip(DJANGO).await
}

/// Makes Django's tables in a database, unless they are there.
pub async fn migrate(site: &Site, database_url: &str) -> Result<()> {
    let mut migrate = Command::new("python3");
    migrate.args(["-m", "django", "migrate"]).envs(environment(database_url)?);
    migrate.current_dir(packages::sources(DJANGO));
    program::run_once("django migrate", migrate, &site.log_file(DJANGO)).await
}

/// Starts gunicorn over a database. Answers to reads are kept and given again for so many seconds.
pub async fn start(site: &Site, database_url: &str, seconds_cached: u32) -> Result<Service> {
    migrate(site, database_url).await?;
    let (mut program, port) = site.other_program(DJANGO, "python3".into())?;
    program.args = ["-m", "gunicorn", "--config", "gunicorn.conf.py"].map(OsString::from).into();
    program.env.extend(environment(database_url)?);
    program.env.push(("SECONDS_CACHED", seconds_cached.to_string().into()));
    program.folder = Some(packages::sources(DJANGO));
    Service::start(program, port).await
}

fn environment(database_url: &str) -> Result<Vec<(&'static str, OsString)>> {
    Ok(vec![
        ("DATABASE_URL", database_url.into()),
        ("DJANGO_SETTINGS_MODULE", "shop.settings".into()),
        ("PYTHONPATH", std::env::join_paths([packages::sources(DJANGO), packages::installed(DJANGO)?])?),
        // Not beside the sources.
        ("PYTHONPYCACHEPREFIX", packages::folder(DJANGO)?.join("bytecode").into()),
    ])
}
