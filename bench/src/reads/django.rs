//! The same rows and the same reads through Django: with `.values()`, without its cache and with it.

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection};

use super::shop::Shop;
use crate::contestants::Service;
use crate::peers::django::{self, NOT_CACHED};

const DATABASE: &str = "django";
/// Longer than a load takes: nothing is read twice because of it.
const SECONDS_CACHED: u32 = 600;

/// Tables that Django made, and the columns that both have.
const TABLES: [(&str, &str); 2] = [
    ("accounts", "id, email, username, name, region, status, created_at"),
    ("orders", "id, account_id, quantity, amount_cents, currency, status, reason, placed_at"),
];

/// Makes a database for Django beside the one that is read, and copies the rows.
pub async fn fill(shop: &Shop) -> Result<()> {
    let postgres = &shop.postgres;
    let mut from = PgConnection::connect(&postgres.url()).await?;
    sqlx::query("create database django").execute(&mut from).await?;
    django::migrate(&shop.site, &postgres.database_url(DATABASE)).await?;
    let mut to = PgConnection::connect(&postgres.database_url(DATABASE)).await?;
    for (table, columns) in TABLES {
        let mut rows = from.copy_out_raw(&format!("copy (select {columns} from {table}) to stdout")).await?;
        let mut into = to.copy_in_raw(&format!("copy {table} ({columns}) from stdin")).await?;
        while let Some(chunk) = rows.try_next().await? {
            into.send(chunk).await?;
        }
        into.finish().await.with_context(|| format!("cannot copy {table}"))?;
    }
    for statement in ["vacuum analyze", "checkpoint"] {
        sqlx::raw_sql(statement).execute(&mut to).await?;
    }
    Ok(())
}

/// Starts it.
pub async fn serve(shop: &Shop, is_cached: bool) -> Result<Service> {
    let seconds_cached = if is_cached { SECONDS_CACHED } else { NOT_CACHED };
    django::start(&shop.site, &shop.postgres.database_url(DATABASE), seconds_cached).await
}
