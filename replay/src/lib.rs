//! Reads the log again, for people: is it whole, do the views follow from it, what happened to this one?

mod check;
mod events;
pub mod from;
mod rules;
mod verify;

pub use check::{Findings, check};
pub use events::{Events, recorded};
pub use verify::{Difference, Report, ViewReport, verify};
