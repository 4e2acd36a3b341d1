//! Everything on one machine: fetches the servers, starts and supervises the services, loads the sample.
//!
//! The binary `stack` is what `cargo run` starts. The integration tests use [`servers`] for a NATS and a Postgres
//! of their own.

pub mod servers;

pub mod ports;
pub mod process;
pub mod program;
pub mod readiness;

mod http;
mod log_file;
pub mod screen;
