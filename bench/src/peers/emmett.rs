//! Emmett and its PostgreSQL event store on node.

use anyhow::Result;

use super::packages;
use crate::contestants::{Service, Site};

const EMMETT: &str = "emmett";

pub async fn install() -> Result<()> {
    packages::npm(EMMETT, &["server.js", "shop.js"]).await
}

pub async fn start(site: &Site, database_url: &str) -> Result<Service> {
    let (mut program, port) = site.other_program(EMMETT, "node".into())?;
    program.args = vec!["server.js".into()];
    program.env.push(("DATABASE_URL", database_url.into()));
    program.folder = Some(packages::installed(EMMETT)?);
    Service::start(program, port).await
}
