//! Whether answers of the query-service were right: each is compared with the log.
//!
//! An answer says which position it reflects, so it is right if it is exactly what the view's pure functions make of
//! the log up to that position: nothing older, nothing newer. Clients note what they asked and what they were
//! answered in [`Answers`]; when all is over, [`check`] folds the log once, from its first event to its last, and
//! compares every answer on the way.

mod answers;
mod check;
mod past;
mod place;
mod question;
mod verdict;

pub use answers::{Answers, Given, QuestionId};
pub use check::{Checker, check};
pub use question::Question;
pub use verdict::{Fault, Verdict};
