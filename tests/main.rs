//! The whole system, with real servers: each test has a namespace and a database of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;
mod python;
mod smtp;
mod written_log;

mod analysts;
mod architecture;
mod auth;
mod cache;
mod coherence;
mod commands;
mod copies;
mod durability;
mod edge;
mod event_log;
mod forwarding;
mod full_disk;
mod growth;
mod history;
mod imports;
mod instance;
mod leaf;
mod limits;
mod lists;
mod live;
mod load;
mod log_care;
mod log_check;
mod mail;
mod openapi;
mod permissions;
mod plans;
mod processes;
mod projector;
mod projector_storm;
mod quarantine;
mod queries;
mod reading;
mod rebuild;
mod refusals;
mod replaying;
mod sample;
mod seeking;
mod stack_process;
mod stack_scale;
mod standby;
mod state_store;
mod storm;
mod takeover;
mod tasks;
mod wakening;
mod writers;
