//! An event with its place in the log: what views and policies are given.

use uuid::Uuid;

use crate::{Event, Timestamp, application::EventError, values::InvalidValue};

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The number of the event in the log.
    pub position: u64,
    /// When it was decided.
    pub time: Timestamp,
    /// The aggregate's id.
    pub id: Uuid,
    pub event: Event,
}

impl Recorded {
    /// Reads it from what the log has of it. Data of older versions become those of the current one.
    pub fn read(
        position: u64,
        time: jiff::Timestamp,
        id: Uuid,
        event_type: &str,
        version: Option<u32>,
        data: &str,
    ) -> Result<Self, UnreadableEvent> {
        let version = version.ok_or(UnreadableEvent::NoVersion { position })?;
        let event = Event::decode(event_type, version, data)
            .map_err(|error| UnreadableEvent::Event { position, error })?;
        let time = Timestamp::try_from(time).map_err(|error| UnreadableEvent::Time { position, error })?;
        Ok(Self { position, time, id, event })
    }
}

/// Why an event in the log cannot be read by this version of the application.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("event {position} has no version")]
    NoVersion { position: u64 },
    #[error("event {position} has a time that cannot be kept: {error}")]
    Time { position: u64, error: InvalidValue },
    #[error("event {position} cannot be read: {error}")]
    Event { position: u64, error: EventError },
}

impl UnreadableEvent {
    /// Whether this version of the application knows no event of this type.
    pub fn is_unknown_type(&self) -> bool {
        matches!(self, Self::Event { error: EventError::UnknownType(_), .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(time: &str, event_type: &str, version: Option<u32>) -> Result<Recorded, UnreadableEvent> {
        Recorded::read(7, time.parse().unwrap(), Uuid::nil(), event_type, version, "{}")
    }

    #[test]
    fn an_event_is_read_with_its_place() {
        let recorded = read("2026-01-01T00:00:00Z", "account.closed", Some(1)).unwrap();
        assert_eq!((recorded.position, recorded.time.to_string().as_str()), (7, "2026-01-01T00:00:00Z"));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_and_says_where_it_is() {
        let unknown = read("2026-01-01T00:00:00Z", "account.exploded", Some(1)).unwrap_err();
        assert!(unknown.is_unknown_type() && unknown.to_string().contains("event 7"), "{unknown}");
        let newer = read("2026-01-01T00:00:00Z", "account.closed", Some(2)).unwrap_err();
        assert!(!newer.is_unknown_type(), "{newer}");
        let timeless = read("1815-12-10T00:00:00Z", "account.closed", Some(1)).unwrap_err();
        assert!(matches!(timeless, UnreadableEvent::Time { position: 7, .. }), "{timeless}");
        let without = read("2026-01-01T00:00:00Z", "account.closed", None).unwrap_err();
        assert!(matches!(without, UnreadableEvent::NoVersion { position: 7 }), "{without}");
    }
}
