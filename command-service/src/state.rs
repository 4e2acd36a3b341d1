//! The state that decisions need, folded from the log: the state and revision of each aggregate, who holds
//! which claim, and the outcome of every idempotency key.

mod changes;
mod disk;
mod speculation;
mod store;

pub use changes::{Address, Changes, Folded, KeyedOutcome};
pub use speculation::Speculation;
pub use store::{Store, StoreError};
