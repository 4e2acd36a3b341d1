//! cqrs-es and postgres-es behind axum.

use anyhow::Result;

use super::packages;
use crate::contestants::{Service, Site};

const CQRS_ES: &str = "cqrs-es";
const PROGRAM: &str = "cqrs-es-service";

pub async fn install() -> Result<()> {
    packages::cargo(CQRS_ES).await
}

pub async fn start(site: &Site, database_url: &str) -> Result<Service> {
    let (mut program, port) = site.other_program(CQRS_ES, packages::built(CQRS_ES, PROGRAM)?)?;
    program.env.push(("DATABASE_URL", database_url.into()));
    Service::start(program, port).await
}
