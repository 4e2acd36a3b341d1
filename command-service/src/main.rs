//! Takes commands over HTTP, decides them in one order, and appends what follows to the log.

use clap::Parser;
use command_service::Config;
use mimalloc::MiMalloc;
use service_kit::{http, shutdown, telemetry};

/// Commands are many small allocations, and a state that is folded again is many more at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let telemetry = telemetry::start("command-service", config.service.log_format)?;
    let shutdown = shutdown::on_signal()?;
    let listener = http::bind(config.listen).await?;
    let served = command_service::serve(listener, config, shutdown).await;
    telemetry.finish().await;
    served
}
