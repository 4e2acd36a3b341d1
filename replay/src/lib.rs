//! Reads the log again, for people: is it whole, do the views follow from it, what happened to this one, what was it
//! like then; and all of it as files for the programs that analysts have.

mod check;
pub mod export;
mod history;
mod rules;
#[cfg(feature = "sql")]
pub mod sql;
mod streams;
mod verify;
pub mod view;

pub mod columns;
pub mod event_table;
pub mod filter;
pub mod format;
pub mod mask;
pub mod moment;
pub mod output;
mod reading;
pub mod table;
pub mod usage;

pub use check::{Findings, check};
pub use history::{Happening, history};
pub use reading::{Events, Pace, Source, recorded};
pub use streams::{Stream, streams};
pub use verify::{Difference, Report, ViewReport, verify};
