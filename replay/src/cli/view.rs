use anyhow::Result;
use arrow_array::RecordBatch;
use clap::Args;
use domain::view::Definition;
use event_log::Target;
use replay::{
    Source, moment,
    view::{self, Folding},
};

use super::{Outcome, Personal, destination::Destination, progress};

#[derive(Args)]
#[command(after_help = "\
Examples:
  replay view customers
  replay view customers --as-of 2026-01-31T23:59:59Z --out january.parquet
  replay view accounts --as-of 5000 --diff 4000            what changed after position 4000 up to 5000
  replay view daily_sales --format csv | column -ts,")]
pub struct Options {
    /// Its name, such as `customers`.
    #[arg(value_parser = view::find)]
    view: &'static Definition,

    /// As it was after the event at this position, or at this time. Without it: as of the end of the log.
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
    as_of: Option<Target>,

    /// Show only what changed since this earlier moment.
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment::parse)]
    diff: Option<Target>,

    #[command(flatten)]
    destination: Destination,

    #[command(flatten)]
    personal: Personal,
}

pub async fn view(source: &Source, options: Options) -> Result<Outcome> {
    options.destination.check()?;
    let privacy = options.personal.privacy()?;
    let definition = options.view;
    // What cannot be masked is refused before the log is read.
    let (schema, _) = match options.diff {
        None => view::table(definition, Vec::new())?,
        Some(_) => view::diff_table(definition, &[])?,
    };
    privacy.check([schema.as_ref()].into_iter())?;
    let bar = progress::of(source).await?;
    let progress = |position| bar.set_position(position);
    let mut folding = Folding::new(source, definition, &progress).await?;
    let (_, batches) = match options.diff {
        None => {
            folding.up_to(options.as_of).await?;
            view::table(definition, folding.rows()?)?
        }
        Some(earlier) => {
            folding.up_to(Some(earlier)).await?;
            folding.refuse_earlier(options.as_of)?;
            folding.mark();
            folding.up_to(options.as_of).await?;
            view::diff_table(definition, &folding.changes()?)?
        }
    };
    bar.finish_and_clear();
    let plan = privacy.plan(&schema);
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut written = options.destination.open(plan.schema.clone())?;
    for batch in batches {
        written.write(&plan.apply(batch)?).await?;
    }
    written.finish()?;
    let (what, at) = (if options.diff.is_some() { "changed rows" } else { "rows" }, folding.position);
    let time = folding.time.map(|time| format!(" of {time:.3}")).unwrap_or_default();
    eprintln!("{rows} {what} of {}, as of position {at}{time}", definition.name);
    Ok(Outcome::Fine)
}
