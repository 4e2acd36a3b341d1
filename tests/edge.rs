//! The edge: real services come, go, restart, die and slow down behind a real Envoy, and its clients do not notice.
//!
//! Each test says on stdout what it has seen. `HEADWATER_EDGE_SECONDS` makes the loads longer than in CI.

mod clients;
mod site;

mod answers;
mod regions;
mod restarts;
mod scaling;
mod statements;
mod tls;
mod writer;

pub use clients::{Clients, UPSTREAM};
