//! The query-service as a program: settings in, `query_service::serve`, an error out.

use clap::Parser;
use query_service::Config;
use service_kit::{http, shutdown, telemetry};

/// Answers are many small allocations; this allocator is quicker at them, and gives back what they took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let telemetry = telemetry::start("query-service", config.service.log_format)?;
    let shutdown = shutdown::on_signal()?;
    let listener = http::bind(config.listen).await?;
    let served = query_service::serve(listener, config, shutdown).await;
    telemetry.finish().await;
    served
}
