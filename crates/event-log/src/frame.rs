//! A frame: one message with the events of all commands that committed together. Its headers place it in
//! the log, its payload is a batch of CloudEvents 1.0 (`application/cloudevents-batch+json`).

use async_nats::HeaderMap;
use bytes::Bytes;
use uuid::Uuid;

use crate::{envelope::Envelope, log::Head};

const FORMAT: u64 = 1;
const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// The names of a frame's headers.
pub(crate) mod header {
    pub const FORMAT: &str = "Headwater-Format";
    pub const FRAME_ID: &str = "Headwater-Frame-Id";
    pub const FIRST_POSITION: &str = "Headwater-First-Position";
    pub const COUNT: &str = "Headwater-Count";
    pub const TERM: &str = "Headwater-Term";
    pub const PREVIOUS_FRAME: &str = "Headwater-Previous-Frame";
    pub const CONTENT_TYPE: &str = "Content-Type";
}

/// Events encoded one by one, on their way into a frame.
#[derive(Debug, Default)]
pub struct Encoded {
    payload: Vec<u8>,
    count: u64,
}

impl Encoded {
    pub fn push(&mut self, envelope: &Envelope) {
        self.payload.push(if self.count == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.payload, envelope)
            .expect("an envelope has string keys, and a Vec takes every byte");
        self.count += 1;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Forgets all that was pushed after the first `count` events and `bytes` bytes.
    pub fn truncate(&mut self, count: u64, bytes: usize) {
        self.count = count;
        self.payload.truncate(bytes);
    }

    fn finish(mut self) -> Bytes {
        self.payload.extend_from_slice(if self.count == 0 { b"[]" } else { b"]" });
        self.payload.into()
    }
}

/// A frame to be appended.
#[derive(Clone, Debug)]
pub struct NewFrame {
    pub id: Uuid,
    /// The position of its first event; of the next event, if it holds none.
    pub first: u64,
    pub count: u64,
    /// The term of the writer that appends it.
    pub term: u64,
    /// The id of the frame before it; none if it is the first. A reader knows by it that the frame belongs
    /// to the log that it has read so far.
    pub previous: Option<Uuid>,
    pub(crate) payload: Bytes,
}

impl NewFrame {
    /// A frame of `events` to follow `head`. A frame without events opens a term.
    pub fn new(head: Head, term: u64, events: Encoded) -> Self {
        let first = head.position + 1;
        Self {
            id: Uuid::now_v7(),
            first,
            count: events.count,
            term,
            previous: head.frame_id,
            payload: events.finish(),
        }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        headers.insert(header::FORMAT, FORMAT.to_string());
        headers.insert(header::FRAME_ID, self.id.to_string());
        headers.insert(header::FIRST_POSITION, self.first.to_string());
        headers.insert(header::COUNT, self.count.to_string());
        headers.insert(header::TERM, self.term.to_string());
        if let Some(previous) = self.previous {
            headers.insert(header::PREVIOUS_FRAME, previous.to_string());
        }
        headers
    }
}

/// A frame's place in the log, which its headers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub sequence: u64,
    pub id: Uuid,
    pub first: u64,
    pub count: u64,
    pub term: u64,
    pub previous: Option<Uuid>,
}

impl Place {
    pub fn read(sequence: u64, headers: &HeaderMap) -> Result<Self, FrameError> {
        let error = |problem: String| FrameError { sequence, problem };
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| value.as_str())
                .ok_or_else(|| error(format!("header {name} is missing")))
        };
        let number = |name: &str| {
            text(name)?.parse::<u64>().map_err(|_| error(format!("header {name} is not a whole number")))
        };
        let format = number(header::FORMAT)?;
        if format != FORMAT {
            return Err(error(format!("format {format} is unknown; this version reads format {FORMAT}")));
        }
        let id = |text: &str| text.parse().map_err(|_| error(format!("frame id `{text}` is not a UUID")));
        let previous = headers.get(header::PREVIOUS_FRAME).map(|value| id(value.as_str()));
        let (first, count) = (number(header::FIRST_POSITION)?, number(header::COUNT)?);
        // Whatever is computed from them can be computed.
        if first.checked_add(count).is_none() {
            return Err(error(format!("there are no positions from {first} on for {count} events")));
        }
        Ok(Self {
            sequence,
            id: id(text(header::FRAME_ID)?)?,
            previous: previous.transpose()?,
            first,
            count,
            term: number(header::TERM)?,
        })
    }

    /// The position of the frame's last event; of the event before it, if it holds none.
    pub fn last(&self) -> u64 {
        (self.first + self.count).saturating_sub(1)
    }
}

/// A frame as it was read.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The stream sequence of its message.
    pub sequence: u64,
    pub id: Uuid,
    pub first: u64,
    pub term: u64,
    /// The id of the frame before it; none if it is the first.
    pub previous: Option<Uuid>,
    pub events: Vec<Envelope>,
}

impl Frame {
    pub(crate) fn read(place: Place, payload: &[u8]) -> Result<Self, FrameError> {
        let error = |problem: String| FrameError { sequence: place.sequence, problem };
        let unreadable = |cause: &dyn std::fmt::Display| error(format!("payload is unreadable: {cause}"));
        // Checked as a whole, because that is faster than string by string.
        let text = std::str::from_utf8(payload).map_err(|cause| unreadable(&cause))?;
        let events: Vec<Envelope> = serde_json::from_str(text).map_err(|cause| unreadable(&cause))?;
        let expected = place.first..place.first + place.count;
        if !events.iter().map(|event| event.position).eq(expected.clone()) {
            return Err(error(format!("holds other positions than {expected:?}")));
        }
        let Place { sequence, id, first, term, previous, .. } = place;
        Ok(Self { sequence, id, first, term, previous, events })
    }

    /// The position of the frame's last event; of the event before it, if it holds none.
    pub fn last(&self) -> u64 {
        (self.first + self.events.len() as u64).saturating_sub(1)
    }
}

/// A message of the log that is not a frame which this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame at sequence {sequence}: {problem}")]
pub struct FrameError {
    pub sequence: u64,
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::value::RawValue;

    use super::*;

    fn envelope(position: u64) -> Envelope {
        Envelope {
            specversion: Envelope::SPECVERSION.into(),
            id: position.to_string(),
            source: "/test".into(),
            r#type: "account.closed".into(),
            subject: Uuid::nil(),
            time: Timestamp::UNIX_EPOCH,
            datacontenttype: Envelope::DATACONTENTTYPE.into(),
            dataschema: Envelope::schema("account.closed", 1),
            data: RawValue::from_string("{}".into()).unwrap(),
            position,
            previous: 0,
            idempotencykey: None,
            commandhash: None,
            correlationid: None,
            causationid: None,
            actor: None,
            traceparent: None,
        }
    }

    /// A frame after position 7.
    fn frame(positions: &[u64]) -> NewFrame {
        let mut events = Encoded::default();
        positions.iter().for_each(|position| events.push(&envelope(*position)));
        let head = Head { sequence: 6, frame_id: Some(Uuid::from_u128(6)), position: 7, term: 1 };
        NewFrame::new(head, 1, events)
    }

    fn read(frame: &NewFrame) -> Result<Frame, FrameError> {
        Frame::read(Place::read(7, &frame.headers())?, &frame.payload)
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let written = frame(&[8, 9]);
        let read = read(&written).unwrap();
        assert_eq!((read.sequence, read.id, read.first, read.last()), (7, written.id, 8, 9));
        assert_eq!(read.previous, Some(Uuid::from_u128(6)));
        assert_eq!((read.events[1].position, read.events[1].version()), (9, Some(1)));
    }

    #[test]
    fn a_frame_that_opens_a_term_holds_no_event() {
        let read = read(&frame(&[])).unwrap();
        assert_eq!((read.last(), read.events.len()), (7, 0));
    }

    #[test]
    fn a_frame_whose_events_are_not_where_it_says_is_refused() {
        assert!(read(&frame(&[8, 10])).is_err());
    }

    #[test]
    fn what_was_pushed_can_be_taken_back() {
        let mut events = Encoded::default();
        events.push(&envelope(1));
        let (count, bytes) = (events.count(), events.bytes());
        events.push(&envelope(2));
        events.truncate(count, bytes);
        let frame = read(&NewFrame::new(Head::default(), 1, events)).unwrap();
        assert_eq!(frame.events.len(), 1);
    }

    #[test]
    fn positions_that_cannot_be_counted_are_refused() {
        let mut headers = frame(&[8, 9]).headers();
        headers.insert(header::FIRST_POSITION, u64::MAX.to_string());
        let refused = Place::read(7, &headers).unwrap_err();
        assert!(refused.problem.contains("there are no positions"), "{refused}");
    }

    /// From outside comes whatever somebody could publish.
    #[test]
    fn whatever_a_message_holds_it_is_a_frame_or_refused() {
        const NAMES: [&str; 6] = [
            header::FORMAT,
            header::FRAME_ID,
            header::FIRST_POSITION,
            header::COUNT,
            header::TERM,
            header::PREVIOUS_FRAME,
        ];
        arbtest::arbtest(|chance| {
            let frame = frame(&[8, 9]);
            let (mut headers, mut payload) = (frame.headers(), frame.payload.to_vec());
            for _ in 0..chance.int_in_range(0..=4)? {
                let numbers = [0, 1, 2, u64::MAX, chance.arbitrary()?];
                let text = match chance.ratio(1, 4)? {
                    true => "é".to_owned(),
                    false => chance.choose(&numbers)?.to_string(),
                };
                headers.insert(*chance.choose(&NAMES)?, text);
            }
            for _ in 0..chance.int_in_range(0..=4)? {
                let at = chance.choose_index(payload.len())?;
                let length = chance.int_in_range(0..=payload.len() - at)?.min(8);
                payload.splice(at..at + length, chance.bytes(length)?.iter().copied());
            }
            if let Ok(frame) = Place::read(7, &headers).and_then(|place| Frame::read(place, &payload)) {
                let positions = frame.events.iter().map(|event| event.position);
                assert!(positions.eq(frame.first..frame.first + frame.events.len() as u64));
                assert!(frame.last() + 1 >= frame.first);
            }
            Ok(())
        });
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        arbtest::arbtest(|chance| {
            let mut event = envelope(8);
            event.r#type = chance.arbitrary()?;
            event.subject = Uuid::from_u128(chance.arbitrary()?);
            event.data =
                RawValue::from_string(serde_json::json!(chance.arbitrary::<String>()?).to_string()).unwrap();
            event.actor = chance.arbitrary()?;
            event.idempotencykey = chance.arbitrary()?;
            event.traceparent = chance.arbitrary()?;
            event.previous = chance.arbitrary()?;
            let mut events = Encoded::default();
            events.push(&event);
            let head = Head { sequence: 6, frame_id: None, position: 7, term: chance.arbitrary()? };
            let read = read(&NewFrame::new(head, 1, events)).unwrap();
            let as_json = |event: &Envelope| serde_json::to_value(event).unwrap();
            assert_eq!(read.events.iter().map(as_json).collect::<Vec<_>>(), [as_json(&event)]);
            Ok(())
        });
    }
}
