use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use event_log::Target;
use replay::{
    Source,
    export::{Exported, Partition, Unreadable, export as run},
    filter::Range,
    format::Format,
    moment,
};

use super::{Outcome, Personal, Which, progress, signals::Signals};

#[derive(Args)]
#[command(after_help = "\
Examples:
  replay export --out history                              everything; run it again to add what is new
  replay export --out january --from 2026-01-01 --before 2026-02-01 --format csv
  replay export --out orders --aggregate order --partition day
  replay export --out shared --mask personal --mask-key-file ~/mask.key
  replay export --out live --follow                        goes on until Ctrl-C

Files are <out>/<event type>/<first position>-<last position>.<format>; what stands there is whole at any moment, and
each event is in one file. <out>/manifest.json says up to where.")]
pub struct Options {
    /// The folder for the files. A folder that holds an export is gone on with; it must be one with the same settings.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,

    #[arg(long, value_enum, default_value = "parquet")]
    format: Format,

    #[command(flatten)]
    which: Which,

    /// Begin at this position, or with the first event at or after this time.
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
    from: Option<Target>,

    /// End before this position, or before the first event at or after this time.
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
    before: Option<Target>,

    /// Cut the files: `day` makes a folder for each day (UTC), a number a file for each so many positions.
    #[arg(long, value_name = "day|POSITIONS")]
    partition: Option<Partition>,

    #[command(flatten)]
    personal: Personal,

    /// What to do about events that this program cannot read, such as those of a type that it does not know.
    #[arg(long, value_enum, default_value = "fail")]
    unreadable: Unreadable,

    /// Go on with what is new, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,

    /// With --follow: make files of what came in so many seconds. More often is more files.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    every: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds from 0.01 to 86400".to_owned())
}

pub async fn export(source: &Source, options: Options, signals: &mut Signals) -> Result<Outcome> {
    let place = options.out.display().to_string();
    let export = replay::export::Options {
        folder: options.out,
        format: options.format,
        partition: options.partition.unwrap_or_default(),
        filter: options.which.filter()?,
        range: Range { from: options.from, before: options.before },
        privacy: options.personal.privacy()?,
        unreadable: options.unreadable,
        follow: options.follow.then(|| Duration::from_secs_f64(options.every)),
    };
    let mut stopped_by = None;
    let stop = async { stopped_by = Some(signals.stop().await) };
    let progress = progress::of(source).await?;
    let exported = run(source, export, |position| progress.set_position(position), stop).await;
    let took = progress.elapsed();
    progress.finish_and_clear();
    let Exported { position, events, skipped, is_interrupted } = exported?;
    let rate = events as f64 / took.as_secs_f64();
    eprintln!(
        "{events} events added in {:.1} s ({rate:.0}/s); {place} reaches position {position}",
        took.as_secs_f64()
    );
    if skipped > 0 {
        eprintln!("{skipped} events could not be read and were left out; `replay check` names them");
    }
    if !is_interrupted {
        return Ok(Outcome::Fine);
    }
    eprintln!("stopped; the same command goes on from there");
    Ok(stopped_by.map_or(Outcome::Interrupted, |stop| stop.outcome(options.follow)))
}
