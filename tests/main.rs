//! The whole system, with real servers: each test has a namespace and a database of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod architecture;
mod commands;
mod event_log;
mod imports;
mod processes;
mod projector;
mod queries;
mod refusals;
mod sample;
mod writers;
