//! The task-worker as a program: settings in, the service or a command by hand, an error out.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Subcommand};
use service_kit::{http, shutdown, telemetry};
use task_worker::Config;

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
    let telemetry = telemetry::start("task-worker", config.service.log_format)?;
    let shutdown = shutdown::on_signal()?;
    let listener = http::bind(config.listen).await?;
    let served = task_worker::serve(listener, config, domain::policies::ALL, shutdown).await;
    telemetry.finish().await;
    served?;
    Ok(ExitCode::SUCCESS)
}
