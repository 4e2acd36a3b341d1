//! The settings of what a service says of its load.

use std::time::Duration;

use clap::Args;

use crate::config;

/// What a service says of its load, and where.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Region of this instance. It says its load several times a second on the NATS subject
    /// `<namespace>.load.<region>.<service>`.
    #[arg(long, env = "HEADWATER_REGION", default_value = "local", value_parser = config::subject_token)]
    pub region: String,

    /// Milliseconds that 99 of 100 requests should be answered within; slower, and the service says that it is under
    /// pressure. Waits that a request asks for do not count.
    // Each service sets its own default, by `mut_arg`.
    #[arg(long, env = "HEADWATER_P99_TARGET_MS", required = false,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub p99_target_ms: u64,
}

impl LoadArgs {
    pub fn p99_target(&self) -> Duration {
        Duration::from_millis(self.p99_target_ms)
    }
}
