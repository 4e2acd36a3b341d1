//! The projector as a program: settings in, the service or a command by hand, an error out.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Subcommand};
use mimalloc::MiMalloc;
use projector::Config;
use service_kit::{http, shutdown, telemetry};

/// Events and rows are many small allocations, made in one thread and freed in another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let command = cli::Command::augment_subcommands(Config::command())
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true);
    let matches = command.get_matches();
    match matches.subcommand_name() {
        Some(_) => cli::Command::from_arg_matches(&matches)?.run().await,
        None => run(Config::from_arg_matches(&matches)?).await,
    }
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::start("projector", config.service.log_format)?;
    let shutdown = shutdown::on_signal()?;
    let listener = http::bind(config.listen).await?;
    let served = projector::serve(listener, config, domain::views::ALL, shutdown).await;
    telemetry.finish().await;
    served?;
    Ok(ExitCode::SUCCESS)
}
