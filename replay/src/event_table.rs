//! The events of one type as a table: what the envelope says, then what the event's data says.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::{
    ArrayRef, Int32Array, RecordBatch, StringArray,
    builder::{Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder},
};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use domain::{Kind, Recorded};
use event_log::Envelope;

use crate::columns::{Columns, PERSONAL_KEY, UTC, generator, moment};

/// A batch has at most so many rows: enough to be fast, and of little weight.
pub const ROWS_MAX: usize = 8_192;

/// An event type of the application.
pub struct EventType {
    pub kind: Kind,
    /// Such as `account.registered`.
    pub name: String,
    /// Of its data.
    schema: serde_json::Value,
}

/// All that there are.
pub fn event_types() -> Vec<EventType> {
    let mut generator = generator();
    let of_kind = |kind: &Kind| {
        let events = kind.events(&mut generator).into_iter();
        let event_type = |event: domain::tagged::Variant| EventType {
            kind: *kind,
            name: format!("{}.{}", kind.name(), event.name),
            schema: event.content,
        };
        events.map(event_type).collect::<Vec<_>>()
    };
    Kind::ALL.iter().flat_map(of_kind).collect()
}

/// Collects the events of one type.
pub struct EventTable {
    aggregate: &'static str,
    event_type: String,
    pub schema: SchemaRef,
    envelope: EnvelopeColumns,
    data: Columns,
    rows: usize,
}

impl EventTable {
    pub fn new(event_type: &EventType) -> Result<Self> {
        let data = Columns::of(&event_type.schema, ROWS_MAX)
            .with_context(|| format!("{} has no columns", event_type.name))?;
        let mut fields = envelope_fields();
        let named = |field: &FieldRef| match fields.iter().any(|other| other.name() == field.name()) {
            true => Arc::new(field.as_ref().clone().with_name(format!("data_{}", field.name()))),
            false => field.clone(),
        };
        let of_data: Vec<FieldRef> = data.fields.iter().map(named).collect();
        fields.extend(of_data);
        Ok(Self {
            aggregate: event_type.kind.name(),
            event_type: event_type.name.clone(),
            schema: Arc::new(Schema::new(fields)),
            envelope: EnvelopeColumns::default(),
            data,
            rows: 0,
        })
    }

    /// Takes an event, and gives a batch whenever one is full.
    pub fn push(&mut self, envelope: &Envelope, recorded: &Recorded) -> Result<Option<RecordBatch>> {
        // As this version of the application writes it, whatever version it was written in.
        let (_, data) = recorded.event.encode();
        let place = || format!("event {} ({}) does not fit its columns", envelope.position, self.event_type);
        self.data.push(data.get()).with_context(place)?;
        self.envelope.push(envelope, recorded)?;
        self.rows += 1;
        if self.rows < ROWS_MAX { Ok(None) } else { self.take() }
    }

    /// What was taken since the last batch, if anything was.
    pub fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let mut columns = self.envelope.take(self.aggregate, &self.event_type, self.rows);
        let data = self.data.take().with_context(|| format!("events of {} do not fit", self.event_type))?;
        columns.extend(data);
        self.rows = 0;
        Ok(Some(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

/// What every event has. A column of its data with one of these names is called `data_…` instead. The hash of the
/// command is left out: it would tell who guesses an email address that the guess is right.
fn envelope_fields() -> Vec<FieldRef> {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let personal = |field: Field| field.with_metadata([(PERSONAL_KEY.to_owned(), "true".to_owned())].into());
    let fields = [
        Field::new("position", DataType::Int64, false),
        Field::new("time", moment(), false),
        text("aggregate", false),
        text("aggregate_id", false),
        text("event_type", false),
        Field::new("event_version", DataType::Int32, false),
        Field::new("previous", DataType::Int64, false),
        personal(text("actor", true)),
        personal(text("idempotency_key", true)),
        text("correlation_id", true),
        text("causation_id", true),
        text("traceparent", true),
    ];
    fields.into_iter().map(Arc::new).collect()
}

#[derive(Default)]
struct EnvelopeColumns {
    position: Int64Builder,
    time: TimestampMicrosecondBuilder,
    id: StringBuilder,
    version: Int32Builder,
    previous: Int64Builder,
    /// Actor, idempotency key, correlation, causation, traceparent.
    optional: [StringBuilder; 5],
}

impl EnvelopeColumns {
    fn push(&mut self, envelope: &Envelope, recorded: &Recorded) -> Result<()> {
        self.position.append_value(i64::try_from(envelope.position)?);
        self.time.append_value(recorded.time.micros());
        self.id.append_value(envelope.subject.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
        // It was read by its version, so it has one.
        self.version.append_value(envelope.version().unwrap_or(0).cast_signed());
        self.previous.append_value(i64::try_from(envelope.previous)?);
        let Envelope { actor, idempotencykey, correlationid, causationid, traceparent, .. } = envelope;
        let optional = [actor, idempotencykey, correlationid, causationid, traceparent];
        for (column, value) in self.optional.iter_mut().zip(optional) {
            column.append_option(value.as_deref());
        }
        Ok(())
    }

    fn take(&mut self, aggregate: &str, event_type: &str, rows: usize) -> Vec<ArrayRef> {
        let same = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)));
        let version: Int32Array = self.version.finish();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.position.finish()),
            Arc::new(self.time.finish().with_timezone(UTC)),
            same(aggregate),
            Arc::new(self.id.finish()),
            same(event_type),
            Arc::new(version),
            Arc::new(self.previous.finish()),
        ];
        columns.extend(self.optional.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_has_the_name_of_another() {
        for event_type in event_types() {
            let table = EventTable::new(&event_type).unwrap();
            let mut names: Vec<_> = table.schema.fields().iter().map(|field| field.name()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), table.schema.fields().len(), "{}", event_type.name);
        }
    }
}
