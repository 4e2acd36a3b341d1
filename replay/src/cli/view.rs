use std::{
    fs::{self, File},
    io::{BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use clap::Args;
use domain::view::Definition;
use event_log::Target;
use replay::{
    Source,
    format::{self, Format},
    moment, output,
    table::Table,
    view::{self, Folding},
};

use super::{Outcome, Personal, progress};

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

    /// The file to write; its name's extension tells the format.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The format, of the file or of what goes to standard output. Without either, a table.
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Show so many rows in a table.
    #[arg(long, value_name = "ROWS", default_value_t = 50)]
    limit: usize,

    #[command(flatten)]
    personal: Personal,
}

pub async fn view(source: &Source, options: Options) -> Result<Outcome> {
    let target = Destination::of(&options)?;
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
    let batches = batches.into_iter().map(|batch| plan.apply(batch)).collect::<Result<Vec<_>>>()?;
    target.write(plan.schema, &batches, options.limit)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let (what, at) = (if options.diff.is_some() { "changed rows" } else { "rows" }, folding.position);
    let time = folding.time.map(|time| format!(" of {time:.3}")).unwrap_or_default();
    eprintln!("{rows} {what} of {}, as of position {at}{time}", definition.name);
    Ok(Outcome::Fine)
}

enum Destination {
    Terminal,
    Stdout(Format),
    File(PathBuf, Format),
}

impl Destination {
    fn of(options: &Options) -> Result<Self> {
        match (&options.out, options.format) {
            (None, None) => Ok(Self::Terminal),
            (None, Some(Format::Parquet | Format::Arrow)) if std::io::stdout().is_terminal() => {
                bail!("this format is not for terminals; --out FILE writes it into a file")
            }
            (None, Some(format)) => Ok(Self::Stdout(format)),
            (Some(path), format) => {
                let format = format.or_else(|| Format::of(path)).with_context(|| {
                    format!(
                        "{} does not tell a format; --format does, or .parquet, .csv, .jsonl, .arrow",
                        path.display()
                    )
                })?;
                Ok(Self::File(path.clone(), format))
            }
        }
    }

    fn write(&self, schema: SchemaRef, batches: &[RecordBatch], limit: usize) -> Result<()> {
        match self {
            Self::Terminal => {
                let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
                let mut out = BufWriter::new(output::stdout());
                Table::of(&schema, batches, limit)?.print(&mut out)?;
                if rows > limit {
                    writeln!(out, "… and {} more; --limit shows them, --out FILE has all", rows - limit)?;
                }
                out.flush()?;
            }
            Self::Stdout(format) => {
                format::write(*format, schema, batches, BufWriter::new(output::stdout()))
                    .context("cannot write")?;
            }
            Self::File(path, format) => write_file(path, *format, schema, batches)
                .with_context(|| format!("cannot write {}", path.display()))?,
        }
        Ok(())
    }
}

/// Written aside and then renamed: there is never half a file under its name.
fn write_file(path: &Path, format: Format, schema: SchemaRef, batches: &[RecordBatch]) -> Result<()> {
    let name = path.file_name().context("it names no file")?;
    let aside = path.with_file_name(format!(".{}.aside", name.to_string_lossy()));
    let written = File::create(&aside).map_err(anyhow::Error::from).and_then(|file| {
        let out = format::write(format, schema, batches, BufWriter::new(file))?;
        out.get_ref().sync_all()?;
        Ok(fs::rename(&aside, path)?)
    });
    if written.is_err() {
        // What could not be written is of no use; the error says why.
        let _ = fs::remove_file(&aside);
    }
    written
}
