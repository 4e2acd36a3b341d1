//! Values that are parsed at the edge, once: a bad one never reaches the domain. Each deserialises
//! through `TryFrom`, with an error that says what is accepted.

mod email;
mod money;
mod text;
mod timestamp;
mod username;

pub use email::Email;
pub use money::{Cents, Currency, Quantity};
pub use text::{Name, Reason, Region};
pub use timestamp::{Day, Timestamp};
pub use username::Username;

/// In the schema of a value that says who a person is, or may say it, as free text may: exports mask or drop all such
/// values together.
pub const PERSONAL: &str = "x-personal";

/// What is wrong with a value, in words for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub(crate) &'static str);

/// A value that is a checked string: it is read through `parse` and written as it is.
macro_rules! checked_string {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = crate::values::InvalidValue;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $name::parse(&text)
            }
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}
use checked_string;
