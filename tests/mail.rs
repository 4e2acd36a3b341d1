//! Emails, through a real mail server: each ends in one email with the right content, or in the error that says who is
//! to blame: this email, this moment, or the server.

mod content;
mod security;
mod trouble;
mod ways;

use std::{
    fs, iter,
    time::{Duration, Instant},
};

use clap::Parser;
use serde_json::{Value, json};
use task_worker::mail::{Mail, MailArgs, MailError, Mailer};

use crate::smtp::{SmtpServer, address};

#[derive(Parser)]
#[command(args_override_self = true)]
struct Config {
    #[command(flatten)]
    mail: MailArgs,
}

/// Each policy has templates.
fn templates() -> impl Iterator<Item = &'static str> {
    domain::policies::ALL.iter().map(|policy| policy.name)
}

/// A mailer to `url`, with these flags too.
fn try_mailer(url: &str, flags: &[&str]) -> anyhow::Result<Mailer> {
    let all = ["task-worker", "--mail", url, "--mail-from", "Headwater <shop@example.org>"];
    let config = Config::try_parse_from(all.iter().chain(flags))?;
    Mailer::new(&config.mail, templates())
}

/// A mailer with a server that it may wait for a second an answer, and three seconds in all.
fn mailer(server: &SmtpServer) -> Mailer {
    try_mailer(&server.url(), &["--smtp-timeout-seconds", "1"]).unwrap()
}

/// Welcomes somebody at an address.
async fn welcome(mailer: &Mailer, to: &str) -> Result<(), MailError> {
    send(mailer, "welcome-email", to, json!({"username": "ada", "name": "Ada Lovelace"})).await
}

async fn send(mailer: &Mailer, template: &str, to: &str, values: Value) -> Result<(), MailError> {
    mailer.send(&Mail { template, to: &address(to), values: &values, id: "welcome-email.7" }).await
}

/// Why the server was found to be unavailable.
#[track_caller]
fn unavailable(result: Result<(), MailError>) -> String {
    let Err(MailError::Unavailable(why)) = result else { panic!("{result:?}") };
    why
}

#[track_caller]
fn refused(result: Result<(), MailError>) -> String {
    let Err(MailError::Refused(why)) = result else { panic!("{result:?}") };
    why
}

#[track_caller]
fn not_now(result: Result<(), MailError>) -> String {
    let Err(MailError::NotNow(why)) = result else { panic!("{result:?}") };
    why
}
