//! The events of one type as a table: what the envelope says, then what the event's data says.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::{
    ArrayRef, RecordBatch, RecordBatchOptions, StringArray,
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
    event_type: String,
    pub schema: SchemaRef,
    envelope: Vec<(FieldRef, EnvelopeColumn)>,
    data: Columns,
    /// Of an event's data.
    json: Vec<u8>,
    rows: usize,
}

impl EventTable {
    pub fn new(event_type: &EventType) -> Result<Self> {
        Self::some_of(event_type, |_| true)
    }

    /// With only the columns whose number is wanted.
    pub fn some_of(event_type: &EventType, is_wanted: impl Fn(usize) -> bool) -> Result<Self> {
        let envelope = envelope(event_type);
        let of_envelope = envelope.len();
        let named = |field: &FieldRef| match envelope.iter().any(|(other, _)| other.name() == field.name()) {
            true => Arc::new(field.as_ref().clone().with_name(format!("data_{}", field.name()))),
            false => field.clone(),
        };
        let data = Columns::some_of(&event_type.schema, ROWS_MAX, |column| is_wanted(of_envelope + column))
            .with_context(|| format!("{} has no columns", event_type.name))?;
        let of_data: Vec<FieldRef> = data.fields.iter().map(named).collect();
        let wanted = envelope.into_iter().enumerate().filter(|(column, _)| is_wanted(*column));
        let envelope: Vec<_> = wanted.map(|(_, column)| column).collect();
        let fields: Vec<FieldRef> = envelope.iter().map(|(field, _)| field.clone()).chain(of_data).collect();
        Ok(Self {
            event_type: event_type.name.clone(),
            schema: Arc::new(Schema::new(fields)),
            envelope,
            data,
            json: Vec::new(),
            rows: 0,
        })
    }

    /// Takes an event, and gives a batch whenever one is full.
    pub fn push(&mut self, envelope: &Envelope, recorded: &Recorded) -> Result<Option<RecordBatch>> {
        if !self.data.fields.is_empty() {
            // As this version of the application writes it, whatever version it was written in.
            let place =
                || format!("event {} ({}) does not fit its columns", envelope.position, self.event_type);
            self.data.push(recorded.event.write_data(&mut self.json)).with_context(place)?;
        }
        self.envelope.iter_mut().try_for_each(|(_, column)| column.push(envelope, recorded))?;
        self.rows += 1;
        if self.rows < ROWS_MAX { Ok(None) } else { self.take() }
    }

    /// What was taken since the last batch, if anything was.
    pub fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let mut columns: Vec<ArrayRef> =
            self.envelope.iter_mut().map(|(_, column)| column.take(self.rows)).collect();
        let data = self.data.take().with_context(|| format!("events of {} do not fit", self.event_type))?;
        columns.extend(data);
        // A table of no columns has rows, too.
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        Ok(Some(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

/// What every event has. A column of its data with one of these names is called `data_…` instead. The hash of the
/// command is left out: it would tell who guesses an email address that the guess is right.
fn envelope(event_type: &EventType) -> Vec<(FieldRef, EnvelopeColumn)> {
    let required = |name: &str, data_type, column| (Field::new(name, data_type, false), column);
    let optional = |name: &str, value| {
        (Field::new(name, DataType::Utf8, true), EnvelopeColumn::Optional(value, StringBuilder::new()))
    };
    let personal = |(field, column): (Field, _)| {
        (field.with_metadata([(PERSONAL_KEY.to_owned(), "true".to_owned())].into()), column)
    };
    let aggregate = event_type.kind.name().to_owned();
    let columns = [
        required("position", DataType::Int64, EnvelopeColumn::Position(Int64Builder::new())),
        required("time", moment(), EnvelopeColumn::Time(TimestampMicrosecondBuilder::new())),
        required("aggregate", DataType::Utf8, EnvelopeColumn::Same(aggregate)),
        required("aggregate_id", DataType::Utf8, EnvelopeColumn::Id(StringBuilder::new())),
        required("event_type", DataType::Utf8, EnvelopeColumn::Same(event_type.name.clone())),
        required("event_version", DataType::Int32, EnvelopeColumn::Version(Int32Builder::new())),
        required("previous", DataType::Int64, EnvelopeColumn::Previous(Int64Builder::new())),
        personal(optional("actor", |event| event.actor.as_deref())),
        personal(optional("idempotency_key", |event| event.idempotencykey.as_deref())),
        optional("correlation_id", |event| event.correlationid.as_deref()),
        optional("causation_id", |event| event.causationid.as_deref()),
        optional("traceparent", |event| event.traceparent.as_deref()),
    ];
    columns.into_iter().map(|(field, column)| (Arc::new(field), column)).collect()
}

enum EnvelopeColumn {
    Position(Int64Builder),
    Time(TimestampMicrosecondBuilder),
    /// Of all events of the table.
    Same(String),
    Id(StringBuilder),
    Version(Int32Builder),
    Previous(Int64Builder),
    Optional(fn(&Envelope) -> Option<&str>, StringBuilder),
}

impl EnvelopeColumn {
    fn push(&mut self, envelope: &Envelope, recorded: &Recorded) -> Result<()> {
        match self {
            Self::Position(column) => column.append_value(i64::try_from(envelope.position)?),
            Self::Time(column) => column.append_value(recorded.time.micros()),
            Self::Same(_) => {}
            Self::Id(column) => {
                let mut buffer = uuid::Uuid::encode_buffer();
                column.append_value(envelope.subject.hyphenated().encode_lower(&mut buffer));
            }
            // It was read by its version, so it has one.
            Self::Version(column) => column.append_value(envelope.version().unwrap_or(0).cast_signed()),
            Self::Previous(column) => column.append_value(i64::try_from(envelope.previous)?),
            Self::Optional(value, column) => column.append_option(value(envelope)),
        }
        Ok(())
    }

    fn take(&mut self, rows: usize) -> ArrayRef {
        match self {
            Self::Position(column) | Self::Previous(column) => Arc::new(column.finish()),
            Self::Time(column) => Arc::new(column.finish().with_timezone(UTC)),
            Self::Same(text) => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text.as_str(), rows)))
            }
            Self::Version(column) => Arc::new(column.finish()),
            Self::Id(column) | Self::Optional(_, column) => Arc::new(column.finish()),
        }
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
