//! The envelope of an event: a CloudEvent, one element of a frame's payload.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// One event as a CloudEvent. Positions are strings in JSON, because CloudEvents' integers have 32 bits.
/// Attributes that are unknown to this version are ignored on reading.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(deserialize_with = "usual::specversion")]
    pub specversion: Cow<'static, str>,
    /// Unique within `source`: the position.
    pub id: String,
    /// The log: `/<namespace>`.
    pub source: String,
    /// Such as `account.registered`.
    pub r#type: String,
    /// The aggregate's id.
    pub subject: Uuid,
    /// When the event was decided; never earlier than the event before it.
    pub time: Timestamp,
    #[serde(deserialize_with = "usual::datacontenttype")]
    pub datacontenttype: Cow<'static, str>,
    /// `urn:headwater:<type>:<version>`.
    pub dataschema: String,
    pub data: Box<RawValue>,

    #[serde(with = "decimal")]
    pub position: u64,
    /// The position of the aggregate's event before this one; 0 for its first.
    #[serde(with = "decimal")]
    pub previous: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotencykey: Option<String>,
    /// A hash of the command, kept with its idempotency key to tell a repeat from another command.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commandhash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub correlationid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub causationid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

impl Envelope {
    pub const SPECVERSION: &'static str = "1.0";
    pub const DATACONTENTTYPE: &'static str = "application/json";

    /// The value of `dataschema` for an event's type and version.
    pub fn schema(event_type: &str, version: u32) -> String {
        format!("urn:headwater:{event_type}:{version}")
    }

    /// The event's version, which is the last part of `dataschema`.
    pub fn version(&self) -> Option<u32> {
        self.dataschema.rsplit_once(':')?.1.parse().ok()
    }
}

/// Attributes that are the same in every event, so that reading them allocates nothing.
mod usual {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer};

    use super::Envelope;

    type Text<E> = Result<Cow<'static, str>, E>;

    pub fn specversion<'de, D: Deserializer<'de>>(deserializer: D) -> Text<D::Error> {
        read(deserializer, Envelope::SPECVERSION)
    }

    pub fn datacontenttype<'de, D: Deserializer<'de>>(deserializer: D) -> Text<D::Error> {
        read(deserializer, Envelope::DATACONTENTTYPE)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, usual: &'static str) -> Text<D::Error> {
        let text = BorrowedText::deserialize(deserializer)?.0;
        Ok(if text == usual { Cow::Borrowed(usual) } else { Cow::Owned(text.into_owned()) })
    }

    /// A `Cow` that does borrow where it can.
    #[derive(Deserialize)]
    struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);
}

/// Whole numbers of 64 bits as strings.
mod decimal {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_str(Decimal)
    }

    struct Decimal;

    impl de::Visitor<'_> for Decimal {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number as a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            text.parse().map_err(|_| E::custom(format!("`{text}` is not a whole number")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_are_not_the_usual_ones_are_kept() {
        let text = r#"{"specversion": "1.\u0030.1", "id": "8", "source": "/test", "type": "account.closed",
            "subject": "00000000-0000-0000-0000-000000000000", "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json", "dataschema": "urn:headwater:account.closed:1", "data": {},
            "position": "8", "previous": "0"}"#;
        let read: Envelope = serde_json::from_str(text).unwrap();
        assert_eq!(read.specversion, "1.0.1");
        assert_eq!(read.datacontenttype, Envelope::DATACONTENTTYPE);
    }
}
