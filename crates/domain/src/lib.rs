//! The application: what may happen, and what is shown of it. Pure: no I/O, no clock, no randomness.
//!
//! An aggregate is a state with `decide`, `evolve`, `owner` and `claims` ([`aggregate::Aggregate`]); a view is a
//! row with `touches` and `apply` ([`view::View`]); a task policy says what an event owes
//! ([`policy::Policy`]). To put in your own domain, replace the modules [`account`] and [`order`] and the lines
//! that name them in [`application`], and the modules in [`views`] and [`policies`] with the lists there.

pub mod account;
pub mod order;
pub mod policies;
pub mod views;

pub mod aggregate;
pub mod application;
pub mod policy;
pub mod recorded;
pub mod tagged;
pub mod upcast;
pub mod values;
pub mod view;

pub use aggregate::{Aggregate, Claim, Context, Owner, Rejection, RejectionClass, States};
pub use application::{Command, Event, Kind, State};
pub use recorded::{Recorded, UnreadableEvent};
pub use upcast::Upcasts;
pub use values::Timestamp;
pub use view::{Touch, View};
