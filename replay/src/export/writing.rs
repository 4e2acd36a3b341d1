//! Encodes batches into files aside, and makes them part of the export where a part ends.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
};

use anyhow::{Context, Result};
use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use tokio::sync::mpsc;

use super::{
    Exported,
    manifest::{Folder, Part},
    partition,
    tables::{Reached, Step},
};
use crate::{
    format::{Format, TableWriter},
    mask::{Plan, Privacy},
};

pub struct Writing {
    folder: Folder,
    format: Format,
    privacy: Privacy,
    files: BTreeMap<String, TableFile>,
    exported: Exported,
}

/// One that is being written, of one event type.
struct TableFile {
    writer: TableWriter<BufWriter<File>>,
    plan: Plan,
    rows: u64,
    first: i64,
    last: i64,
}

impl Writing {
    pub fn new(folder: Folder, format: Format, privacy: Privacy) -> Self {
        let exported = Exported { position: folder.position(), ..Exported::default() };
        Self { folder, format, privacy, files: BTreeMap::new(), exported }
    }

    /// Takes steps until there are no more. What no cut has come after is thrown away.
    pub fn run(mut self, mut steps: mpsc::Receiver<Step>) -> Result<Exported> {
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Batch { event_type, batch } => self.write(&event_type, batch).with_context(|| {
                    format!("cannot write {event_type}; what was exported before stays whole")
                })?,
                Step::Cut { part, reached, skipped } => self.cut(part, reached, skipped)?,
            }
        }
        Ok(self.exported)
    }

    /// A name that no earlier part has had: its file may yet have to be moved into place.
    fn aside(&self, event_type: &str, first: i64) -> String {
        format!("{event_type}-{first:012}.{}", self.format.extension())
    }

    fn write(&mut self, event_type: &str, batch: RecordBatch) -> Result<()> {
        let positions = batch.column(0).as_primitive::<Int64Type>();
        let (first, last) = (positions.value(0), positions.value(positions.len() - 1));
        let rows = batch.num_rows() as u64;
        if !self.files.contains_key(event_type) {
            let plan = self.privacy.plan(&batch.schema());
            let path = self.folder.aside(&self.aside(event_type, first));
            let file = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
            let writer = TableWriter::new(self.format, plan.schema.clone(), file)?;
            self.files.insert(event_type.to_owned(), TableFile { writer, plan, rows: 0, first, last });
        }
        let file = self.files.get_mut(event_type).context("the file that was just made")?;
        file.writer.write(&file.plan.apply(batch)?)?;
        file.rows += rows;
        file.last = last;
        Ok(())
    }

    fn cut(&mut self, part: Option<partition::Part>, reached: Reached, skipped: u64) -> Result<()> {
        let mut parts = Vec::new();
        let within =
            part.and_then(|part| part.folder()).map(|folder| format!("{folder}/")).unwrap_or_default();
        for (event_type, file) in std::mem::take(&mut self.files) {
            let TableFile { writer, rows, first, last, .. } = file;
            let path = format!("{event_type}/{within}{first:012}-{last:012}.{}", self.format.extension());
            finish(writer)
                .with_context(|| format!("cannot write {path}; what was exported before stays whole"))?;
            self.exported.events += rows;
            parts.push(Part { aside: self.aside(&event_type, first), event_type, path, rows });
        }
        self.exported.position = reached.position;
        self.exported.skipped += skipped;
        self.folder.add(parts, reached, skipped)
    }
}

fn finish(writer: TableWriter<BufWriter<File>>) -> Result<()> {
    let mut out = writer.finish()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(())
}
