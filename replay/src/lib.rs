//! Reads the log again, for people: is it whole, do the views follow from it, what happened to this one?

mod events;
pub mod from;
mod verify;

pub use events::Events;
pub use verify::{Difference, Report, ViewReport, verify};
