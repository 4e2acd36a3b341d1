//! The analysts' command line over the log.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Arguments, Command, Outcome, connect, export, look, verdict, view};
use replay::output;

/// As other programs say that they were told to stop by Ctrl-C.
const INTERRUPTED: u8 = 130;
const DIFFERS: u8 = 1;
const FAILED: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        // Whoever reads the output (`| head`) has read enough.
        _ if output::is_closed() => ExitCode::SUCCESS,
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Differs) => ExitCode::from(DIFFERS),
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("replay: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    if let Command::Completions { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "replay", &mut script);
        std::io::Write::write_all(&mut output::stdout(), &script)?;
        return Ok(Outcome::Fine);
    }
    let source = connect(&arguments.place).await?;
    match arguments.command {
        Command::Export(options) => export::export(&source, options).await,
        Command::View(options) => view::view(&source, options).await,
        Command::Streams { json } => look::streams(&source, json).await,
        Command::History { aggregate, id, from, json } => {
            look::history(&source, aggregate, id, from, json).await
        }
        Command::Tail { which, from, json } => look::tail(&source, which, from, json).await,
        Command::Verify { database_url, show } => verdict::verify(&source, &database_url, show).await,
        Command::Check => verdict::check(&source).await,
        Command::Completions { .. } => Ok(Outcome::Fine),
    }
}
