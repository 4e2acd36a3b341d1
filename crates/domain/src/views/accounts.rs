//! Find an account by id, email or username; list those of a status, newest first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Event, Kind, Recorded, Timestamp, View, account,
    values::{Email, Name, Region, Username},
    view::Touch,
};

pub struct Accounts;

/// A closed account keeps its row, without the email address and the username that it gave up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub id: Uuid,
    pub email: Option<Email>,
    pub username: Option<Username>,
    pub name: Option<Name>,
    pub region: Option<Region>,
    pub status: Status,
    pub created_at: Timestamp,
    /// The position of the account's last event.
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Active,
    Closed,
}

impl View for Accounts {
    const NAME: &'static str = "accounts";
    const KEY: &'static str = "id";
    const VERSION: i32 = 1;
    const AGGREGATES: &'static [Kind] = &[Kind::Account];
    type Row = Row;

    fn touches(recorded: &Recorded) -> Touch {
        match recorded.event {
            Event::Account(_) => Touch::Row(recorded.id.to_string()),
            Event::Order(_) => Touch::Nothing,
        }
    }

    fn apply(row: Option<Row>, recorded: &Recorded) -> Option<Row> {
        use account::Event::*;
        let Event::Account(event) = &recorded.event else { return row };
        let revision = recorded.position;
        match (event.clone(), row) {
            (Registered { email, username, name, region }, _) => Some(Row {
                id: recorded.id,
                email: Some(email),
                username: Some(username),
                name,
                region,
                status: Status::Active,
                created_at: recorded.time,
                revision,
            }),
            (EmailChanged { email }, Some(row)) => Some(Row { email: Some(email), revision, ..row }),
            (UsernameChanged { username }, Some(row)) => {
                Some(Row { username: Some(username), revision, ..row })
            }
            (Renamed { name }, Some(row)) => Some(Row { name: Some(name), revision, ..row }),
            (Closed {}, Some(row)) => {
                Some(Row { email: None, username: None, status: Status::Closed, revision, ..row })
            }
            (EmailChanged { .. } | UsernameChanged { .. } | Renamed { .. } | Closed {}, None) => None,
        }
    }
}
