//! The events of some frames, as one view sees them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use domain::{
    Kind, Recorded, Timestamp, UnreadableEvent,
    view::{Definition, Touch, aggregate_key},
};
use event_log::{Checkpoint, Envelope, Frame};
use service_kit::trace::{self, SPANS_TOGETHER_MAX, SpanContext};

use super::error::panic_message;

/// What becomes of events of a type that this program does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownEvents {
    /// Hold their aggregates back from every view, until there is a program that knows them.
    #[default]
    Quarantine,
    /// Go on as if they were not there.
    Skip,
}

/// Frames in a row.
#[derive(Debug, Default)]
pub struct Batch {
    pub frames: Vec<Steps>,
    /// How many events there were, those included that do not touch the view.
    pub read: u64,
    /// The spans that its events come from, those that mean something to the view and are traced, up to a bound.
    pub traced: Vec<SpanContext>,
}

/// What one frame means to the view.
#[derive(Debug)]
pub struct Steps {
    pub steps: Vec<Step>,
    /// Where the view is afterwards.
    pub end: Checkpoint,
    /// When its last event was decided; none if it holds none.
    pub time: Option<Timestamp>,
}

/// What one event means to the view.
#[derive(Debug)]
pub enum Step {
    Apply(Box<Recorded>, Touch),
    /// It cannot be read, so nobody knows which rows it touches.
    Unreadable(Box<Unreadable>),
}

/// An event that cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub position: u64,
    /// See [`aggregate_key`].
    pub aggregate_key: String,
    /// The event, as JSON.
    pub event: String,
    pub error: String,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes in the next frame.
    pub fn push(&mut self, frame: &Frame, definition: &Definition, unknown: UnknownEvents) {
        let traced = &mut self.traced;
        let step = |event| step(event, definition, unknown).inspect(|_| note(traced, event));
        let steps = frame.events.iter().filter_map(step).collect();
        let time = frame.events.last().and_then(|event| Timestamp::try_from(event.time).ok());
        let end =
            Checkpoint { position: frame.last(), frame_sequence: frame.sequence, frame_id: Some(frame.id) };
        self.frames.push(Steps { steps, end, time });
        self.read += frame.events.len() as u64;
    }
}

fn note(traced: &mut Vec<SpanContext>, event: &Envelope) {
    if traced.len() < SPANS_TOGETHER_MAX
        && let Some(context) =
            trace::sampled_lately(event.traceparent.as_deref(), event.time.as_microsecond())
        && !traced.contains(&context)
    {
        traced.push(context);
    }
}

/// What an event means to a view; none if nothing.
pub fn step(envelope: &Envelope, definition: &Definition, unknown: UnknownEvents) -> Option<Step> {
    let kind = kind(envelope);
    // Views of other aggregates need not even decode it.
    if Kind::from_name(kind).is_some_and(|kind| !definition.aggregates.contains(&kind)) {
        return None;
    }
    let unreadable = |error: String| {
        Some(Step::Unreadable(Box::new(Unreadable {
            position: envelope.position,
            aggregate_key: aggregate_key(kind, envelope.subject),
            event: serde_json::to_string(envelope).unwrap_or_default(),
            error,
        })))
    };
    let recorded = match decode(envelope) {
        Ok(recorded) => recorded,
        Err(error) if error.is_unknown_type() && unknown == UnknownEvents::Skip => return None,
        Err(error) => return unreadable(error.to_string()),
    };
    match catch_unwind(AssertUnwindSafe(|| (definition.touches)(&recorded))) {
        Ok(Touch::Nothing) => None,
        Ok(touch) => Some(Step::Apply(Box::new(recorded), touch)),
        Err(panic) => unreadable(format!("which rows it touches: {}", panic_message(panic.as_ref()))),
    }
}

/// The kind of the event's aggregate, which this program may not know.
pub fn kind(envelope: &Envelope) -> &str {
    envelope.r#type.split_once('.').map_or(envelope.r#type.as_str(), |(kind, _)| kind)
}

fn decode(envelope: &Envelope) -> Result<Recorded, UnreadableEvent> {
    let Envelope { position, time, subject, r#type, data, .. } = envelope;
    Recorded::read(*position, *time, *subject, r#type, envelope.version(), data.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "00000000-0000-0000-0000-00000000ada0";

    fn view(name: &str) -> &'static Definition {
        domain::views::ALL.iter().find(|view| view.name == name).unwrap()
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

    fn pushed(view: &Definition, types: &[&str], unknown: UnknownEvents) -> Batch {
        let mut batch = Batch::default();
        batch.push(&frame(1, 7, types), view, unknown);
        batch
    }

    #[test]
    fn a_view_sees_the_events_of_its_own_aggregates_and_where_the_frame_ends() {
        let types = ["account.closed", "account.closed"];
        let accounts = pushed(view("accounts"), &types, UnknownEvents::Quarantine);
        let orders = pushed(view("orders"), &types, UnknownEvents::Quarantine);
        assert_eq!((accounts.frames[0].steps.len(), accounts.read), (2, 2));
        assert_eq!((orders.frames[0].steps.len(), orders.read), (0, 2));
        assert_eq!(orders.frames[0].end.position, 8);
    }

    #[test]
    fn an_event_that_cannot_be_read_is_kept_with_its_aggregate_and_the_reason() {
        let batch = pushed(view("accounts"), &["account.exploded"], UnknownEvents::Quarantine);
        let [Step::Unreadable(unreadable)] = &batch.frames[0].steps[..] else { panic!("{batch:?}") };
        assert_eq!((unreadable.position, unreadable.aggregate_key.clone()), (7, format!("account:{ADA}")));
        assert!(unreadable.error.contains("account.exploded"), "{}", unreadable.error);
        assert!(unreadable.event.contains(r#""type":"account.exploded""#), "{}", unreadable.event);
        // Views of other aggregates do not care; of an aggregate that nobody knows, all do.
        assert!(
            pushed(view("orders"), &["account.exploded"], UnknownEvents::Quarantine).frames[0]
                .steps
                .is_empty()
        );
        let planet = pushed(view("orders"), &["planet.exploded"], UnknownEvents::Quarantine);
        assert!(matches!(&planet.frames[0].steps[..], [Step::Unreadable(_)]));
    }

    #[test]
    fn unknown_types_can_be_skipped_and_broken_data_cannot() {
        let types = ["account.exploded", "account.renamed"];
        let batch = pushed(view("accounts"), &types, UnknownEvents::Skip);
        let [Step::Unreadable(unreadable)] = &batch.frames[0].steps[..] else { panic!("{batch:?}") };
        assert!(unreadable.error.contains("account.renamed"), "{}", unreadable.error);
    }
}
