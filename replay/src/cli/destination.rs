//! Where the rows of one table go: onto the terminal, to standard output, or into a file.

use std::{
    fs::{self, File},
    io::{BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use clap::Args;
use replay::{
    format::{Format, TableWriter},
    output::{self, Output},
    table::Table,
    usage::usage,
};

#[derive(Args)]
pub struct Destination {
    /// The file to write; its name's extension tells the format.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The format, of the file or of what goes to standard output. Without either, a table.
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Show so many rows in a table.
    #[arg(long, value_name = "ROWS", default_value_t = 50)]
    limit: usize,
}

impl Destination {
    /// Refuses what could not be written, before anything is read.
    pub fn check(&self) -> Result<()> {
        self.format().map(|_| ())
    }

    #[cfg(feature = "sql")]
    pub fn is_table(&self) -> bool {
        self.out.is_none() && self.format.is_none()
    }

    /// None for a table.
    fn format(&self) -> Result<Option<Format>> {
        match (&self.out, self.format) {
            (None, Some(Format::Parquet | Format::Arrow)) if std::io::stdout().is_terminal() => {
                Err(usage("this format is not for terminals; --out FILE writes it into a file"))
            }
            (None, format) => Ok(format),
            (Some(path), format) => match format.or_else(|| Format::of(path)) {
                Some(format) => Ok(Some(format)),
                None => Err(usage(format!(
                    "{} does not tell a format; --format does, or .parquet, .csv, .jsonl, .arrow",
                    path.display()
                ))),
            },
        }
    }

    /// Takes the rows of a table with these columns.
    pub fn open(self, schema: SchemaRef) -> Result<Rows> {
        Ok(match (self.format()?, self.out) {
            (None, _) => Rows::Table { schema, limit: self.limit, shown: Vec::new(), rows: 0 },
            (Some(format), None) => {
                Rows::Stdout(TableWriter::new(format, schema, BufWriter::new(output::stdout()))?)
            }
            (Some(format), Some(path)) => Rows::File(AsideFile::create(path, format, schema)?),
        })
    }
}

/// Rows on their way.
pub enum Rows {
    Table { schema: SchemaRef, limit: usize, shown: Vec<RecordBatch>, rows: usize },
    Stdout(TableWriter<BufWriter<Output>>),
    File(AsideFile),
}

impl Rows {
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        // Whoever is told to stop stops between two batches.
        tokio::task::yield_now().await;
        match self {
            Self::Table { limit, shown, rows, .. } => {
                let wanted = limit.saturating_sub(*rows).min(batch.num_rows());
                *rows += batch.num_rows();
                if wanted > 0 {
                    shown.push(batch.slice(0, wanted));
                }
                Ok(())
            }
            Self::Stdout(writer) => writer.write(batch).context("cannot write"),
            Self::File(file) => {
                file.writer.write(batch).with_context(|| format!("cannot write {}", file.path.display()))
            }
        }
    }

    pub fn finish(self) -> Result<()> {
        match self {
            Self::Table { schema, limit, shown, rows } => {
                let mut out = BufWriter::new(output::stdout());
                Table::of(&schema, &shown, limit)?.print(&mut out)?;
                if rows > limit {
                    writeln!(out, "… and {} more; --limit shows them, --out FILE has all", rows - limit)?;
                }
                out.flush().context("cannot write")
            }
            Self::Stdout(writer) => writer.finish()?.flush().context("cannot write"),
            Self::File(file) => file.finish(),
        }
    }
}

/// Written aside and then renamed: there is never half a file under its name.
pub struct AsideFile {
    path: PathBuf,
    aside: Aside,
    writer: TableWriter<BufWriter<File>>,
}

impl AsideFile {
    fn create(path: PathBuf, format: Format, schema: SchemaRef) -> Result<Self> {
        let place = path.display().to_string();
        let name = path.file_name().with_context(|| format!("{place} names no file"))?;
        let aside = path.with_file_name(format!(".{}.aside", name.to_string_lossy()));
        let file = File::create(&aside).with_context(|| format!("cannot write {place}"))?;
        let aside = Aside(aside);
        let writer = TableWriter::new(format, schema, BufWriter::new(file))
            .with_context(|| format!("cannot write {place}"))?;
        Ok(Self { path, aside, writer })
    }

    fn finish(self) -> Result<()> {
        let Self { path, aside, writer } = self;
        complete(writer, &aside.0, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn complete(writer: TableWriter<BufWriter<File>>, aside: &Path, path: &Path) -> Result<()> {
    let mut out = writer.finish()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(fs::rename(aside, path)?)
}

/// What was not completed is of no use, and goes.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // Nothing is there any more if it was completed.
        let _ = fs::remove_file(&self.0);
    }
}
