//! Versions of events: how the data of an older version becomes that of the current one.
//!
//! An event type is in version 1 until its data changes. To change it: change the event's variant, write
//! a function such as `registered_from_v1`, and name it in the aggregate's [`UPCASTS`]; that raises the
//! version. Then let the golden samples of the new version be written (`tests/golden.rs`).
//!
//! ```ignore
//! const UPCASTS: Upcasts = Upcasts(&[("registered", &[registered_from_v1])]);
//!
//! /// Version 2 has one field for the whole name.
//! fn registered_from_v1(mut data: Object) -> Object {
//!     let name = [data.remove("first_name"), data.remove("last_name")];
//!     …
//! }
//! ```
//!
//! Values are parsed when events are read, as strictly as in commands. To tighten the rule of a value is
//! therefore a new version of each event that holds it, with an upcaster that says what old values become.
//!
//! [`UPCASTS`]: crate::Aggregate::UPCASTS

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::tagged::{self, DecodeError};

/// The data of an event, as JSON.
pub type Object = serde_json::Map<String, Value>;

/// Makes the data of one version of an event into that of the next. Pure, and never refuses: what
/// happened, happened.
pub type Upcast = fn(Object) -> Object;

/// The events of an aggregate that have had other versions, each with its upcasters: from version 1, from
/// version 2, and so on. An event's version is one more than it has upcasters, so an event that is not
/// listed is in version 1.
#[derive(Clone, Copy)]
pub struct Upcasts(pub &'static [(&'static str, &'static [Upcast])]);

impl Upcasts {
    pub const NONE: Upcasts = Upcasts(&[]);

    /// The current version of the event `name`.
    pub fn version(&self, name: &str) -> u32 {
        1 + self.of(name).len() as u32
    }

    /// The version that `event` is written in.
    pub fn version_of<E: Serialize>(&self, event: &E) -> u32 {
        if self.0.is_empty() { 1 } else { self.version(&tagged::name(event)) }
    }

    /// Reads the event `name` from the data of any version up to the current one.
    pub fn decode<E: DeserializeOwned>(
        &self,
        name: &str,
        version: u32,
        data: &str,
    ) -> Result<E, UpcastError> {
        if version == self.version(name) {
            return Ok(tagged::decode(name, data)?);
        }
        let steps = (version as usize).checked_sub(1).and_then(|past| self.of(name).get(past..));
        let steps = steps.ok_or(UpcastError::UnknownVersion)?;
        let data = serde_json::from_str(data).map_err(DecodeError::from)?;
        let data = steps.iter().fold(data, |data, upcast| upcast(data));
        Ok(tagged::decode(name, &Value::Object(data).to_string())?)
    }

    fn of(&self, name: &str) -> &'static [Upcast] {
        self.0.iter().find(|(event, _)| *event == name).map_or(&[], |(_, upcasts)| upcasts)
    }
}

/// Why an event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UpcastError {
    /// The version is newer than this application, or none that there ever was.
    #[error("unknown version")]
    UnknownVersion,
    #[error(transparent)]
    Data(#[from] DecodeError),
}
