//! `stack status`: what a running stack runs, and whether each service is ready.

use std::path::Path;

use anyhow::Result;

use crate::endpoints::Endpoints;
use crate::readiness::health;

/// Prints what runs where, and how it is.
pub async fn status(data: &Path) -> Result<()> {
    let endpoints = Endpoints::read(data)?;
    println!("{}", endpoints.table());
    let services = [
        ("command-service", &endpoints.command),
        ("query-service", &endpoints.query),
        ("projector", &endpoints.projector),
        ("task-worker", &endpoints.task_worker),
    ];
    for (name, base) in services {
        match health(base).await {
            Ok(()) => println!("  {name} is ready"),
            Err(missing) => println!("  {name} is not ready: {missing}"),
        }
    }
    Ok(())
}
