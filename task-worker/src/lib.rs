//! The task-worker: log → tasks → effects, when the services have time.

pub mod mail;
mod queue;
