//! The analysts' command line over the log.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Arguments, Command, Outcome, connect, export, look, signals::Signals, sql, verdict, view};
use mimalloc::MiMalloc;
use replay::{Source, output, usage::Usage};

/// Events and columns are many small allocations, made in one thread and freed in another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// As other programs say that they were told to stop by Ctrl-C.
const INTERRUPTED: u8 = 130;
const DIFFERS: u8 = 1;
/// As the parser of the command line says it.
const MISUSED: u8 = 2;
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
            ExitCode::from(if error.is::<Usage>() { MISUSED } else { FAILED })
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
    let follows = matches!(&arguments.command, Command::Export(options) if options.follow);
    let mut signals = Signals::listen()?;
    let source = tokio::select! {
        source = connect(&arguments.place) => source?,
        stop = signals.stop() => return Ok(stop.outcome(follows)),
    };
    if let Command::Export(options) = arguments.command {
        return export::export(&source, options, &mut signals).await;
    }
    tokio::select! {
        outcome = carry_out(&source, arguments.command) => outcome,
        // What was begun is dropped, and with it what was written aside.
        stop = signals.stop() => {
            eprintln!("stopped");
            Ok(stop.outcome(follows))
        }
    }
}

async fn carry_out(source: &Source, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::View(options) => view::view(source, options).await,
        Command::Sql(options) => sql::sql(source, options).await,
        Command::Streams { json } => look::streams(source, json).await,
        Command::History { aggregate, id, from, json } => {
            look::history(source, aggregate, id, from, json).await
        }
        Command::Tail { which, from, json } => look::tail(source, which, from, json).await,
        Command::Verify { database_url, show } => verdict::verify(source, &database_url, show).await,
        Command::Check => verdict::check(source).await,
        // Done before.
        Command::Export(_) | Command::Completions { .. } => Ok(Outcome::Fine),
    }
}
