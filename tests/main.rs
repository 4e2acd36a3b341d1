//! The whole system, with real servers: each test has a namespace and a database of its own.

mod harness;

mod architecture;
mod commands;
mod event_log;
mod projector;
mod queries;
mod refusals;
