use anyhow::Result;
use clap::Args;
use event_log::Target;
use replay::{Source, moment};

use super::{Outcome, Personal, destination::Destination};

#[derive(Args)]
#[command(after_help = "\
Examples:
  replay sql                                        which tables and columns there are
  replay sql \"select day, orders from daily_sales order by amount_cents desc limit 5\"
  replay sql \"select date_trunc('month', placed_at) as month, sum(amount_cents) from order.placed group by 1\"
  replay sql --as-of 2026-01-31 --out spent.parquet \"select id, spent_cents from customers\"

An event type is a table, `account.email-changed` being `account.email_changed`; a view is one by its name. All are as of
one moment. Events are read while the query runs, only the columns that it names and, where it says so with constants,
only the positions and times. Nothing is written and no file is read.")]
pub struct Options {
    /// The query. Without it: which tables and columns there are.
    query: Option<String>,

    /// As it was after the event at this position, or at this time. Without it: as of the end of the log.
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
    as_of: Option<Target>,

    #[command(flatten)]
    destination: Destination,

    #[command(flatten)]
    personal: Personal,

    /// Memory for the query, with the rows of the views that it reads. One that needs more ends with an error.
    #[arg(long, value_name = "MB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    memory_mb: u64,
}

#[cfg(not(feature = "sql"))]
pub async fn sql(_: &Source, _: Options) -> Result<Outcome> {
    Err(replay::usage::usage(
        "this program was built without SQL, whose engine takes longer to build than all the rest; \
         `cargo build --release -p replay --features sql` builds it with SQL",
    ))
}

#[cfg(feature = "sql")]
pub async fn sql(source: &Source, options: Options) -> Result<Outcome> {
    use replay::sql::{self, Session};

    options.destination.check()?;
    let Options { query, as_of, destination, personal, memory_mb } = options;
    let privacy = personal.privacy()?;
    let session = Session::open(source, sql::Options { as_of, privacy, memory_mb }).await?;
    let Some(query) = query else {
        return list(&session);
    };
    let mut answer = session.query(&query).await?;
    if !destination.is_table() {
        refuse_same_names(&answer.schema)?;
    }
    let mut rows = destination.open(answer.schema.clone())?;
    while let Some(batch) = answer.next().await? {
        rows.write(&batch).await?;
    }
    rows.finish()?;
    Ok(Outcome::Fine)
}

/// Files name their columns; on a terminal they may have one name.
#[cfg(feature = "sql")]
fn refuse_same_names(schema: &arrow_schema::Schema) -> Result<()> {
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        None => Ok(()),
        Some((_, name)) => Err(replay::usage::usage(format!(
            "two columns of the answer are called `{name}`; `… as another_name` tells them apart"
        ))),
    }
}

#[cfg(feature = "sql")]
fn list(session: &replay::sql::Session) -> Result<Outcome> {
    use std::io::Write;

    let mut out = replay::output::lines();
    for (table, schema) in session.tables() {
        writeln!(out, "{table}")?;
        for field in schema.fields() {
            let nullable = if field.is_nullable() { ", may be null" } else { "" };
            writeln!(out, "    {} {}{nullable}", field.name(), field.data_type())?;
        }
    }
    Ok(Outcome::Fine)
}
