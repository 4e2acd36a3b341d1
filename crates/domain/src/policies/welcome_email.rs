use serde_json::json;

use crate::{
    Event, Kind, Recorded,
    account::Event as Account,
    policy::{Effect, Owed, Policy, Priority, Recipient, Task},
};

/// Who registers is welcomed, unless the account is closed before that.
pub struct WelcomeEmail;

impl Policy for WelcomeEmail {
    const NAME: &'static str = "welcome-email";
    const PRIORITY: Priority = Priority::Normal;
    const WITHIN_SECONDS: u32 = 15 * 60;
    const AGGREGATES: &'static [Kind] = &[Kind::Account];

    fn owed(recorded: &Recorded) -> Owed {
        match &recorded.event {
            Event::Account(Account::Registered { email, username, name, .. }) => Owed::Task(Task {
                not_before: None,
                effect: Effect::Email {
                    to: Recipient::Address(email.clone()),
                    values: json!({ "username": username, "name": name }),
                },
            }),
            Event::Account(Account::Closed {}) => Owed::NoMore,
            Event::Account(
                Account::EmailChanged { .. } | Account::UsernameChanged { .. } | Account::Renamed { .. },
            )
            | Event::Order(_) => Owed::Nothing,
        }
    }
}
