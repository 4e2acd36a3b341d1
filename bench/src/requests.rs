//! The commands that are sent, as requests: the same to every contestant.

use std::fmt::Arguments;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use uuid::Uuid;

use crate::http1::{Connection, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// A new account: one event, and two values that must be unique
    Register,
    /// A new order of an account: one event
    Place,
}

impl Command {
    pub const ALL: [Self; 2] = [Self::Register, Self::Place];

    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Place => "place",
        }
    }
}

/// What one connection sends: `command`, each time to a new aggregate. Orders are placed by `accounts` in turn.
pub fn each_new(command: Command, connection: usize, accounts: Arc<[Uuid]>) -> impl FnMut(&mut Request) {
    let mut next = connection;
    move |request| match command {
        Command::Register => register(request, Uuid::now_v7()),
        Command::Place => {
            next += 1;
            place(request, Uuid::now_v7(), accounts[next % accounts.len()]);
        }
    }
}

/// What one connection sends: it asks for one of these paths after the other, beginning at another one than the others.
pub fn gets(paths: Arc<[String]>, connection: usize) -> impl FnMut(&mut Request) + Send + 'static {
    /// A prime, so that connections do not follow each other.
    const APART: usize = 7919;
    let mut next = connection * APART;
    move |request| {
        next += 1;
        request.get(&paths[next % paths.len()], format_args!(""));
    }
}

/// What one connection sends: one account gets a new name each time, that no other connection gives it.
pub fn renames(account: Uuid, connection: usize) -> impl FnMut(&mut Request) {
    let mut count = 0;
    move |request| {
        count += 1;
        rename(request, account, format_args!("Name {connection} {count}"));
    }
}

/// Registers new accounts, one after the other.
pub async fn some_accounts(address: SocketAddr, count: usize) -> Result<Arc<[Uuid]>> {
    let mut connection = Connection::open(address).await?;
    let mut request = Request::default();
    let accounts: Arc<[Uuid]> = (0..count).map(|_| Uuid::now_v7()).collect();
    for id in &*accounts {
        register(&mut request, *id);
        let answer = connection.call(&request).await?;
        ensure!(answer.status == 201, "{}", String::from_utf8_lossy(answer.body));
    }
    Ok(accounts)
}

/// An account whose email address and username nobody else has.
fn register(request: &mut Request, id: Uuid) {
    let name = id.simple();
    request.post(
        format_args!("/accounts/{id}/register"),
        format_args!(r#"{{"email":"{name}@example.org","username":"{name}"}}"#),
    );
}

pub fn rename(request: &mut Request, account: Uuid, name: Arguments<'_>) {
    request.post(format_args!("/accounts/{account}/rename"), format_args!(r#"{{"name":"{name}"}}"#));
}

fn place(request: &mut Request, id: Uuid, account: Uuid) {
    request.post(
        format_args!("/orders/{id}/place"),
        format_args!(r#"{{"account_id":"{account}","quantity":1,"amount_cents":2933,"currency":"USD"}}"#),
    );
}
