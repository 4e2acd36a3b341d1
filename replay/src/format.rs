//! The formats that tables are written in.

use std::{io::Write, path::Path, sync::Arc};

use crate::{columns::moment, usage::usage};
use anyhow::Result;
use arrow_array::{ArrayRef, RecordBatch, make_array};
use arrow_ipc::writer::FileWriter;
use arrow_json::LineDelimitedWriter;
use arrow_schema::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

/// Rows that a reader of Parquet can skip, or read in parallel with others.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// What a row group may take of memory, and a reader of it, too.
const ROW_GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Columns with types, compressed: for DuckDB, Polars, pandas, Spark
    Parquet,
    /// For spreadsheets. Times are in RFC 3339
    Csv,
    /// One JSON object a line
    #[value(alias = "json")]
    Jsonl,
    /// Arrow IPC, also called Feather
    Arrow,
}

impl Format {
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Arrow => "arrow",
        }
    }

    /// That of a file with this name.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "arrow" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// Those that say a column's type.
    fn names_time_zones(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }
}

/// What UTC is called where its offset is not what people expect to read.
fn named_zone() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn with_named_zone(schema: &SchemaRef) -> SchemaRef {
    let named = |field: &FieldRef| match *field.data_type() == moment() {
        true => Arc::new(field.as_ref().clone().with_data_type(named_zone())),
        false => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(named).collect::<Vec<_>>()))
}

fn relabelled(batch: &RecordBatch) -> Result<RecordBatch> {
    let named = |column: &ArrayRef| match *column.data_type() == moment() {
        true => Ok(make_array(column.to_data().into_builder().data_type(named_zone()).build()?)),
        false => Ok(column.clone()),
    };
    let columns = batch.columns().iter().map(named).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(with_named_zone(&batch.schema()), columns)?)
}

/// Writes the batches of one table.
pub enum TableWriter<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Csv(Box<arrow_csv::Writer<W>>),
    Jsonl(LineDelimitedWriter<W>),
    Arrow(Box<FileWriter<W>>),
}

impl<W: Write + Send> TableWriter<W> {
    pub fn new(format: Format, schema: SchemaRef, out: W) -> Result<Self> {
        let schema = if format.names_time_zones() { with_named_zone(&schema) } else { schema };
        Ok(match format {
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
                    .build();
                Self::Parquet(Box::new(ArrowWriter::try_new(out, schema, Some(properties))?))
            }
            Format::Csv => {
                let nested = schema.fields().iter().find(|field| field.data_type().is_nested());
                if let Some(field) = nested {
                    return Err(usage(format!(
                        "CSV has no place for the lists of the column `{}`; --drop it, or choose another format",
                        field.name()
                    )));
                }
                let mut writer = arrow_csv::WriterBuilder::new().with_header(true).build(out);
                // So that a table without rows has its header, too.
                writer.write(&RecordBatch::new_empty(schema))?;
                Self::Csv(Box::new(writer))
            }
            Format::Jsonl => Self::Jsonl(LineDelimitedWriter::new(out)),
            Format::Arrow => Self::Arrow(Box::new(FileWriter::try_new(out, &schema)?)),
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(&relabelled(batch)?)?,
            Self::Csv(writer) => writer.write(batch)?,
            Self::Jsonl(writer) => writer.write(batch)?,
            Self::Arrow(writer) => writer.write(&relabelled(batch)?)?,
        }
        Ok(())
    }

    /// Completes the table, and gives back what it was written to.
    pub fn finish(self) -> Result<W> {
        Ok(match self {
            Self::Parquet(writer) => writer.into_inner()?,
            Self::Csv(writer) => writer.into_inner(),
            Self::Jsonl(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::Arrow(writer) => writer.into_inner()?,
        })
    }
}
