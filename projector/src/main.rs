//! The projector as a program: settings in, `projector::serve` or `projector::migrate`, an error out.

use clap::{Args, Command, CommandFactory, FromArgMatches};
use projector::Config;
use service_kit::{config::PostgresArgs, http, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some((_, matches)) => migrate(PostgresArgs::from_arg_matches(matches)?).await,
        None => run(Config::from_arg_matches(&matches)?).await,
    }
}

fn command() -> Command {
    let migrate = Command::new("migrate").about(
        "Creates or updates the tables of the views, then exits. Waits for a Postgres that is starting",
    );
    Config::command()
        .subcommand(PostgresArgs::augment_args(migrate))
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
}

async fn run(config: Config) -> anyhow::Result<()> {
    telemetry::start_logging(config.service.log_format);
    let shutdown = shutdown::on_signal()?;
    let listener = http::bind(config.listen).await?;
    projector::serve(listener, config, shutdown).await
}

async fn migrate(postgres: PostgresArgs) -> anyhow::Result<()> {
    let applied = projector::migrate(&postgres.database_url).await?;
    println!("the database has all {applied} migrations");
    Ok(())
}
