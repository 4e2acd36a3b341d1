//! Everything on one machine: fetches the servers, starts and supervises the services, loads the sample.
//!
//! The binary `stack` is what `cargo run` starts. The integration tests use [`servers`] for a NATS and a Postgres
//! of their own, [`services`] for the programs, and [`sample`] for the data to compare with; the benchmarks use
//! [`servers`] and [`program`].

pub mod control;
pub mod issuer;
pub mod scale;
pub mod status;
pub mod up;

mod backing;
mod fleet;
mod operate;
mod supervisor;

pub mod sample;
pub mod servers;
pub mod services;

pub mod ports;
pub mod process;
pub mod program;
pub mod readiness;
pub mod stop;

mod data_folder;
mod endpoints;
mod http;
mod log_file;
mod metrics;
mod private_file;
mod progress;
mod screen;
