//! What every Headwater service shares, and nothing that knows a domain: configuration, problems
//! (RFC 9457), health, telemetry and traces, what it says of its load, who may ask, the HTTP frame, the common parts of OpenAPI documents, and shutdown.

pub mod auth;
pub mod client;
pub mod config;
pub mod health;
pub mod http;
pub mod lease;
pub mod load;
pub mod nats;
pub mod openapi;
pub mod problem;
pub mod shutdown;
pub mod telemetry;
pub mod trace;

pub use health::Health;
pub use problem::{Kind, Problem};
pub use shutdown::Shutdown;
