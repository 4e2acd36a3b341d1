//! JetStream as an event store. Knows no domain: an event is an envelope around JSON.
//!
//! The log is a sequence of frames, one JetStream message each. A [`frame::NewFrame`] is appended with a
//! fence ([`EventLog::append`]); readers [`follow`](EventLog::follow) from a [`Checkpoint`], which is the one
//! that they keep or one that they [`seek`](EventLog::seek), and notice a log that is not the one they know.

mod append;
mod connection;
mod durability;
mod envelope;
mod follow;
mod frame;
mod inspect;
mod log;
mod read;
mod seek;
mod stream;

pub use append::AppendError;
pub use durability::{Durability, DurabilityError, Profile};
pub use envelope::Envelope;
pub use follow::{FollowError, Follower};
pub use frame::{Encoded, Frame, FrameError, NewFrame};
pub use inspect::{Finding, Inspected, Inspector};
pub use log::{Checkpoint, EventLog, Head, LogError};
pub use seek::Target;
