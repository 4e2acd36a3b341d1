//! A view as of any moment: folded by the same functions as the projector's, from the log alone.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use anyhow::{Context, Result};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use domain::{
    Kind, Recorded,
    view::{Change, Definition, Fold},
};
use event_log::{Checkpoint, Envelope, Head, Target};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    columns::{self, Columns},
    event_table::ROWS_MAX,
    moment,
    reading::{Events, Source, recorded},
    usage::usage,
};

/// The view with this name.
pub fn find(name: &str) -> Result<&'static Definition, String> {
    let names: Vec<&str> = domain::views::ALL.iter().map(|view| view.name).collect();
    let found = domain::views::ALL.iter().find(|view| view.name == name);
    found.ok_or_else(|| format!("expected one of: {}", names.join(", ")))
}

/// Folds a view from the start of the log on, in steps.
pub struct Folding<'a> {
    definition: &'static Definition,
    fold: Box<dyn Fold>,
    events: Events,
    /// Was read, but lies beyond the moment that was folded up to.
    next: Option<Envelope>,
    head: Head,
    /// The event that was folded last.
    pub position: u64,
    pub time: Option<Timestamp>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Folding<'a> {
    pub async fn new(
        source: &Source,
        definition: &'static Definition,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Result<Self> {
        let head = source.log.head().await?;
        Ok(Self {
            definition,
            fold: (definition.fold)(),
            events: Events::after(source, Checkpoint::default()),
            next: None,
            head,
            position: 0,
            time: None,
            progress,
        })
    }

    /// Folds on: every event up to and with `as_of`; without it, up to where the log ended when this began.
    pub async fn up_to(&mut self, as_of: Option<Target>) -> Result<()> {
        moment::refuse_future(as_of, self.head.position)?;
        while let Some(envelope) = self.next().await? {
            if as_of.is_some_and(|as_of| moment::is_beyond(as_of, &envelope)) {
                self.next = Some(envelope);
                break;
            }
            self.apply(&envelope)?;
            (self.position, self.time) = (envelope.position, Some(envelope.time));
            (self.progress)(envelope.position);
        }
        Ok(())
    }

    /// A moment before the one that was folded up to cannot be gone back to.
    pub fn refuse_earlier(&self, as_of: Option<Target>) -> Result<()> {
        let is_earlier = match as_of {
            None => false,
            Some(Target::Position(position)) => position < self.position,
            Some(Target::Time(time)) => self.time.is_some_and(|folded| time < folded),
        };
        if is_earlier {
            return Err(usage("--diff names the earlier moment and --as-of the later one; exchange them"));
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Envelope>> {
        if let Some(envelope) = self.next.take() {
            return Ok(Some(envelope));
        }
        Ok(self.events.up_to(self.head.position).await?)
    }

    fn apply(&mut self, envelope: &Envelope) -> Result<()> {
        // Those of other aggregates are not even decoded.
        let kind = envelope.r#type.split_once('.').and_then(|(kind, _)| Kind::from_name(kind));
        if kind.is_some_and(|kind| !self.definition.aggregates.contains(&kind)) {
            return Ok(());
        }
        let recorded = recorded(envelope)
            .context("the view ends before an event that this program cannot read; a newer one may")?;
        self.fold_in(&recorded).with_context(|| {
            format!("event {} cannot be applied to {}", envelope.position, self.definition.name)
        })
    }

    fn fold_in(&mut self, recorded: &Recorded) -> Result<()> {
        let (definition, fold) = (self.definition, &mut self.fold);
        let applied =
            catch_unwind(AssertUnwindSafe(|| fold.apply(recorded, &(definition.touches)(recorded))));
        applied.map_err(|_| {
            anyhow::anyhow!("its functions panic on it, as the projector's would, who quarantines its row")
        })
    }

    /// All rows, by key.
    pub fn rows(&self) -> Result<Vec<Value>> {
        let changes = self.fold.changes(&self.fold.changed())?;
        Ok(changes.into_iter().filter_map(|change| change.after).collect())
    }

    /// From here on, changes are counted.
    pub fn mark(&mut self) {
        self.fold.settle(usize::MAX);
    }

    /// The rows that are not what they were when this was marked.
    pub fn changes(&self) -> Result<Vec<Change>> {
        Ok(self.fold.changes(&self.fold.changed())?)
    }
}

/// The rows of a view as columns, its key first.
pub fn table(definition: &Definition, rows: Vec<Value>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut columns = columns_of(definition)?;
    let (schema, batches) = columns::batches(&mut columns, rows.into_iter(), ROWS_MAX)?;
    let order = key_first(&schema, definition.key);
    let batches = batches.iter().map(|batch| batch.project(&order)).collect::<Result<_, _>>()?;
    Ok((Arc::new(schema.project(&order)?), batches))
}

/// What changed, as columns: the key, how it changed, and each other column before and after.
pub fn diff_table(definition: &Definition, changes: &[Change]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut fields: Vec<FieldRef> = vec![
        Arc::new(Field::new(definition.key, DataType::Utf8, false)),
        Arc::new(Field::new("change", DataType::Utf8, false)),
    ];
    let mut batches = Vec::new();
    let mut columns = columns_of(definition)?;
    let order = key_first(&Schema::new(columns.fields.clone()), definition.key);
    for field in order.iter().skip(1).map(|index| &columns.fields[*index]) {
        for side in ["before", "after"] {
            let name = format!("{}_{side}", field.name());
            fields.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
        }
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    for changes in changes.chunks(ROWS_MAX) {
        let keys = StringArray::from_iter_values(changes.iter().map(|change| &change.key));
        let kinds = StringArray::from_iter_values(changes.iter().map(kind));
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(kinds)];
        let before = side(&mut columns, changes.iter().map(|change| change.before.as_ref()))?;
        let after = side(&mut columns, changes.iter().map(|change| change.after.as_ref()))?;
        for index in order.iter().skip(1) {
            arrays.extend([before[*index].clone(), after[*index].clone()]);
        }
        batches.push(RecordBatch::try_new(schema.clone(), arrays)?);
    }
    Ok((schema, batches))
}

fn kind(change: &Change) -> &'static str {
    match (&change.before, &change.after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    }
}

/// The columns of rows of which some are not there.
fn side<'a>(columns: &mut Columns, rows: impl Iterator<Item = Option<&'a Value>>) -> Result<Vec<ArrayRef>> {
    let (mut there, mut count) = (Vec::new(), 0);
    for row in rows {
        there.push(row.map(|_| count));
        if let Some(row) = row {
            columns.push(&row.to_string())?;
            count += 1;
        }
    }
    let indices = arrow_array::UInt64Array::from(there);
    let taken = columns.take()?;
    taken.iter().map(|array| Ok(arrow_select::take::take(array, &indices, None)?)).collect()
}

fn columns_of(definition: &Definition) -> Result<Columns> {
    let schema = (definition.row)(&mut columns::generator());
    Columns::of(schema.as_value(), ROWS_MAX).with_context(|| format!("{} has no columns", definition.name))
}

fn key_first(schema: &Schema, key: &str) -> Vec<usize> {
    let mut order: BTreeMap<(bool, usize), usize> = BTreeMap::new();
    for (index, field) in schema.fields().iter().enumerate() {
        order.insert((field.name() != key, index), index);
    }
    order.into_values().collect()
}
