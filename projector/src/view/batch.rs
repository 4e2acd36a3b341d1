//! The events of some frames, as one view sees them.

use std::collections::BTreeSet;

use domain::{Event, Recorded, Timestamp, view::Definition};
use event_log::{Checkpoint, Envelope, Frame};

use super::error::ViewError;

/// What one transaction will fold.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events that touch the view, in order.
    pub events: Vec<Recorded>,
    /// The keys that they touch, each once.
    pub keys: BTreeSet<String>,
    /// How many events there were, those included that do not touch the view.
    pub read: u64,
    /// Where the view will be afterwards.
    pub end: Checkpoint,
}

impl Batch {
    /// An empty batch at `end`.
    pub fn at(end: Checkpoint) -> Self {
        Self { end, ..Self::default() }
    }

    /// Takes in the next frame, whole.
    pub fn push(&mut self, frame: &Frame, definition: &Definition) -> Result<(), ViewError> {
        let events = frame.events.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        for recorded in events {
            let Some(key) = (definition.touches)(&recorded) else { continue };
            self.keys.insert(key);
            self.events.push(recorded);
        }
        self.read += frame.events.len() as u64;
        self.end =
            Checkpoint { position: frame.last(), frame_sequence: frame.sequence, frame_id: Some(frame.id) };
        Ok(())
    }

    /// Takes in the batch that follows this one.
    pub fn append(&mut self, mut next: Batch) {
        self.events.append(&mut next.events);
        self.keys.append(&mut next.keys);
        self.read += next.read;
        self.end = next.end;
    }
}

fn decode(envelope: &Envelope) -> Result<Recorded, ViewError> {
    let position = envelope.position;
    let version = envelope.version();
    let version =
        version.ok_or(ViewError::Envelope { position, problem: "a dataschema without a version" })?;
    let event = Event::decode(&envelope.r#type, version, envelope.data.get())
        .map_err(|source| ViewError::Event { position, source })?;
    let time = Timestamp::try_from(envelope.time)
        .map_err(|_| ViewError::Envelope { position, problem: "a time that cannot be kept" })?;
    Ok(Recorded { position, time, id: envelope.subject, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "00000000-0000-0000-0000-00000000ada0";

    fn accounts() -> &'static Definition {
        domain::views::ALL.iter().find(|view| view.name == "accounts").unwrap()
    }

    /// A frame of closed accounts, the first event of which is at position `first`.
    fn frame(sequence: u64, first: u64, types: &[&str]) -> Frame {
        let event = |(index, event_type): (usize, &&str)| {
            let position = first + index as u64;
            serde_json::from_value(serde_json::json!({
                "specversion": "1.0", "id": position.to_string(), "source": "/test", "type": event_type,
                "subject": ADA, "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
                "dataschema": Envelope::schema(event_type, 1), "data": {},
                "position": position.to_string(), "previous": "0",
            }))
            .unwrap()
        };
        let events = types.iter().enumerate().map(event).collect();
        Frame { sequence, id: uuid::Uuid::from_u128(sequence.into()), first, term: 1, previous: None, events }
    }

    #[test]
    fn a_key_that_several_events_touch_is_fetched_once() {
        let mut batch = Batch::default();
        batch.push(&frame(1, 1, &["account.closed", "account.closed"]), accounts()).unwrap();
        assert_eq!(batch.keys.into_iter().collect::<Vec<_>>(), [ADA]);
        assert_eq!((batch.events.len(), batch.read), (2, 2));
    }

    #[test]
    fn a_batch_ends_where_its_last_frame_ends_even_if_that_holds_no_event() {
        let mut batch = Batch::default();
        batch.push(&frame(1, 1, &["account.closed"]), accounts()).unwrap();
        let mut next = Batch::default();
        next.push(&frame(2, 2, &[]), accounts()).unwrap();
        batch.append(next);
        assert_eq!((batch.end.position, batch.end.frame_sequence, batch.read), (1, 2, 1));
    }

    #[test]
    fn a_frame_with_an_event_that_cannot_be_read_leaves_the_batch_as_it_was() {
        let mut batch = Batch::default();
        let error = batch.push(&frame(1, 7, &["account.closed", "account.exploded"]), accounts());
        assert!(matches!(error, Err(ViewError::Event { position: 8, .. })));
        assert_eq!((batch.events.len(), batch.end), (0, Checkpoint::default()));
    }
}
