//! What people type, and what they get to see.

mod destination;
pub mod export;
pub mod look;
mod progress;
pub mod signals;
pub mod sql;
pub mod verdict;
pub mod view;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use domain::Kind;
use event_log::{EventLog, LogError, Target};
use replay::{
    Pace, Source,
    filter::Filter,
    mask::{MaskKey, Privacy},
    moment,
};
use std::path::PathBuf;
use uuid::Uuid;

/// How a command ended that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    /// Something is not as it should be, or not there.
    Differs,
    Interrupted,
}

const EXAMPLES: &str = "\
Examples:
  replay streams                                     what is in the log
  replay export --out history                        all events as Parquet, a folder for each event type
  replay export --out history                        the same again: adds what is new since
  replay view customers --as-of 2026-01-31 --out january.csv
  replay sql 'select day, orders from daily_sales'   any question, without files
  replay history account 018f6d6e-5c1e-7d2a-b8a1-0c7f6f0f4c11
  replay verify && replay check                      do the views follow from the log, is the log whole?

Exit codes:
  0 fine   1 something differs, or was not found   2 wrong usage: something that was typed is to be mended
  3 it could not be done: the log, the database or the disk   130 stopped by Ctrl-C

docs/analysts.md shows what to do with the files in DuckDB, Polars and pandas.";

/// Reads the log again: exports it, looks at it, folds views as of any moment, checks it.
#[derive(Parser)]
#[command(name = "replay", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args)]
pub struct Place {
    /// Prefix of the log's stream and subjects.
    #[arg(long, global = true, env = "HEADWATER_NAMESPACE", default_value = "headwater")]
    namespace: String,

    /// URL of the NATS server.
    #[arg(
        long,
        global = true,
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true
    )]
    nats_url: String,

    /// Read this stream instead of the log itself: a mirror of it, so that the writer's server has no work.
    #[arg(long, global = true, env = "HEADWATER_LOG_STREAM")]
    stream: Option<String>,

    /// Read at most so many events a second, so that others have the server to themselves.
    #[arg(long, global = true, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..))]
    max_rate: Option<u32>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Write events into files: typed columns, a folder for each event type; a later run adds what is new.
    Export(export::Options),
    /// Fold a view from the log, as of now or of any moment before, into a table or a file.
    View(view::Options),
    /// Ask in SQL: of the events, a table for each type, and of the views, all as of one moment; read only.
    Sql(sql::Options),
    /// Count what is in the log, by aggregate and event type.
    Streams {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show what happened to one aggregate, and what each event changed. Exits with 1 if nothing happened.
    #[command(after_help = "Example:\n  replay history account 018f6d6e-5c1e-7d2a-b8a1-0c7f6f0f4c11")]
    History {
        /// Its name, such as `account`.
        #[arg(value_parser = aggregate)]
        aggregate: Kind,
        id: Uuid,
        /// Begin at this position, or with the first event at or after this time.
        #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
        from: Option<Target>,
        /// One JSON object a line: the CloudEvent, and the state before and after it.
        #[arg(long)]
        json: bool,
    },
    /// Show events as they happen, until Ctrl-C; only what is new, unless `--from` says otherwise.
    #[command(
        after_help = "Examples:\n  replay tail --type order.placed --json | jq .data\n  replay tail --from 2026-11-25 --aggregate account"
    )]
    Tail {
        #[command(flatten)]
        which: Which,
        /// Begin at this position, or with the first event at or after this time: 9277, 2026-11-23T22:21:44Z, 2026-11-23.
        #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
        from: Option<Target>,
        /// One CloudEvent a line.
        #[arg(long)]
        json: bool,
    },
    /// Fold the whole log anew and compare: the views with the fold, row by row, and the log with its own rules. Exits
    /// with 1 if anything differs.
    Verify {
        /// URL of the database of the views.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
        /// Show so many differences; all are counted.
        #[arg(long, value_name = "ROWS", default_value_t = 10)]
        show: usize,
    },
    /// Check the log by itself: positions without gaps, terms, frames and aggregates in unbroken chains, no claim with
    /// two holders at any position, time that never goes back, events that can be read. Exits with 1 if anything is
    /// wrong. Keeps the state of every aggregate in memory: about 1 KB for an account, 300 B for an order.
    Check,
    /// Print a script that completes this command line in your shell.
    #[command(
        after_help = "Example:\n  replay completions bash > ~/.local/share/bash-completion/completions/replay"
    )]
    Completions { shell: Shell },
}

/// Which events; all, if nothing is said.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Only events of this aggregate, such as `account`. May be repeated.
    #[arg(long = "aggregate", value_name = "NAME")]
    aggregates: Vec<String>,
    /// Only events of the aggregate with this id. May be repeated.
    #[arg(long = "id", value_name = "UUID")]
    ids: Vec<Uuid>,
    /// Only events of this type, such as `order.placed`. May be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

impl Which {
    pub fn filter(self) -> Result<Filter> {
        let filter = Filter { aggregates: self.aggregates, ids: self.ids, types: self.types };
        filter.check()?;
        Ok(filter)
    }
}

/// What becomes of personal values.
#[derive(Args, Clone, Debug)]
pub struct Personal {
    /// Write masks instead of the values of these columns; `personal` stands for all that are declared to be. Equal
    /// values have equal masks, so that they can be joined. Needs a key, which does not belong beside the files.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    mask: Vec<String>,
    /// Leave these columns out; `personal` stands for all that are declared to be.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    drop: Vec<String>,
    /// The file with the key for masks, 16 bytes or more. The variable HEADWATER_MASK_KEY may hold the key itself
    /// instead.
    #[arg(long, value_name = "FILE")]
    mask_key_file: Option<PathBuf>,
}

impl Personal {
    pub fn privacy(self) -> Result<Privacy> {
        let key = match (&self.mask_key_file, std::env::var("HEADWATER_MASK_KEY")) {
            (Some(file), _) => Some(MaskKey::from_file(file)?),
            (None, Ok(key)) if !self.mask.is_empty() => Some(MaskKey::new(key.as_bytes())?),
            (None, _) => None,
        };
        Ok(Privacy { mask: self.mask, drop: self.drop, key })
    }
}

pub async fn connect(place: &Place) -> Result<Source> {
    let client = service_kit::nats::connect_now(&place.nats_url, "replay").await?;
    let mut log = EventLog::new(client, &place.namespace);
    if let Some(stream) = &place.stream {
        log = log.read_from(stream);
    }
    // Asked once, so that whoever names another log than there is learns it at once.
    match log.last_sequence().await {
        Ok(_) => Ok(Source { log, pace: Pace::new(place.max_rate) }),
        Err(error @ LogError::Unavailable(_)) => Err(anyhow::anyhow!(
            "{error}; there must be a log of the namespace `{}` (--namespace, HEADWATER_NAMESPACE)",
            place.namespace
        )),
        Err(error) => Err(error.into()),
    }
}

fn aggregate(name: &str) -> Result<Kind, String> {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    Kind::from_name(name).ok_or_else(|| format!("expected one of: {}", names.join(", ")))
}
