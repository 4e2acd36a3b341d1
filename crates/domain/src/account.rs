//! An account: somebody who may order. Its email address and its username are unique while it is open.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Aggregate, Claim, Context, Kind, Owner, Rejection, State,
    values::{Email, Name, Region, Username},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AccountId(pub Uuid);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    #[default]
    Unregistered,
    Active {
        email: Email,
        username: Username,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    Closed,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Opens an account.
    Register {
        email: Email,
        username: Username,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<Region>,
    },
    /// Gives the account another email address.
    ChangeEmail { email: Email },
    /// Gives the account another username.
    ChangeUsername { username: Username },
    /// Says how the account's holder is called.
    Rename { name: Name },
    /// Closes the account for good; its email address and username are free again.
    Close {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Registered {
        email: Email,
        username: Username,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<Region>,
    },
    EmailChanged {
        email: Email,
    },
    UsernameChanged {
        username: Username,
    },
    Renamed {
        name: Name,
    },
    Closed {},
}

pub const NOT_REGISTERED: Rejection = Rejection::missing("account-not-registered", "No such account");
pub const ALREADY_REGISTERED: Rejection =
    Rejection::rule("account-already-registered", "The account is already registered");
pub const CLOSED: Rejection = Rejection::rule("account-closed", "The account is closed");

pub const EMAIL_TAKEN: Rejection = Rejection::taken("email-taken", "This email address is taken");
pub const USERNAME_TAKEN: Rejection = Rejection::taken("username-taken", "This username is taken");

impl Aggregate for Account {
    const NAME: &'static str = "account";
    const PLURAL: &'static str = "accounts";
    const STATE_VERSION: u32 = 1;
    const REJECTIONS: &'static [Rejection] =
        &[NOT_REGISTERED, ALREADY_REGISTERED, CLOSED, EMAIL_TAKEN, USERNAME_TAKEN];
    type Command = Command;
    type Event = Event;

    fn decide(&self, command: Command, _: &Context<'_>) -> Result<Vec<Event>, Rejection> {
        use Account::*;
        match (self, command) {
            (Unregistered, Command::Register { email, username, name, region }) => {
                Ok(vec![Event::Registered { email, username, name, region }])
            }
            (Unregistered, _) => Err(NOT_REGISTERED),
            (Active { .. }, Command::Register { .. }) => Err(ALREADY_REGISTERED),
            (Active { email, .. }, Command::ChangeEmail { email: new }) if *email == new => Ok(vec![]),
            (Active { .. }, Command::ChangeEmail { email }) => Ok(vec![Event::EmailChanged { email }]),
            (Active { username, .. }, Command::ChangeUsername { username: new }) if *username == new => {
                Ok(vec![])
            }
            (Active { .. }, Command::ChangeUsername { username }) => {
                Ok(vec![Event::UsernameChanged { username }])
            }
            (Active { name: Some(name), .. }, Command::Rename { name: new }) if *name == new => Ok(vec![]),
            (Active { .. }, Command::Rename { name }) => Ok(vec![Event::Renamed { name }]),
            (Active { .. }, Command::Close {}) => Ok(vec![Event::Closed {}]),
            (Closed, _) => Err(CLOSED),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match (event.clone(), self) {
            (Event::Registered { email, username, name, .. }, _) => Account::Active { email, username, name },
            (Event::EmailChanged { email }, Account::Active { username, name, .. }) => {
                Account::Active { email, username, name }
            }
            (Event::UsernameChanged { username }, Account::Active { email, name, .. }) => {
                Account::Active { email, username, name }
            }
            (Event::Renamed { name }, Account::Active { email, username, .. }) => {
                Account::Active { email, username, name: Some(name) }
            }
            (Event::Closed {}, _) => Account::Closed,
            (
                Event::EmailChanged { .. } | Event::UsernameChanged { .. } | Event::Renamed { .. },
                account @ (Account::Unregistered | Account::Closed),
            ) => account,
        }
    }

    /// An account is its holder's, whose subject is the account's id.
    fn owner(&self, id: Uuid, _: &Command) -> Owner {
        Owner::Subject(id)
    }

    fn claims(&self) -> Vec<Claim> {
        match self {
            Account::Active { email, username, .. } => {
                vec![Claim::new(EMAIL_TAKEN, email.as_str()), Claim::new(USERNAME_TAKEN, username.as_str())]
            }
            Account::Unregistered | Account::Closed => vec![],
        }
    }
}

impl Context<'_> {
    /// The account at this very point of the log.
    pub fn account(&self, id: AccountId) -> Account {
        match self.states.state(Kind::Account, id.0).into_owned() {
            State::Account(account) => account,
            State::Order(_) => unreachable!("the state of an account was asked for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::test_support::given;

    fn email(text: &str) -> Email {
        Email::parse(text).unwrap()
    }

    fn username(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn register() -> Command {
        Command::Register {
            email: email("ada@example.org"),
            username: username("ada"),
            name: None,
            region: None,
        }
    }

    fn registered() -> Event {
        Event::Registered {
            email: email("ada@example.org"),
            username: username("ada"),
            name: None,
            region: None,
        }
    }

    #[test]
    fn a_new_account_registers_once() {
        given::<Account>([]).when(register()).then([registered()]);
        given::<Account>([registered()]).when(register()).rejected(ALREADY_REGISTERED);
    }

    #[test]
    fn what_was_never_registered_cannot_be_commanded() {
        given::<Account>([]).when(Command::Close {}).rejected(NOT_REGISTERED);
    }

    #[test]
    fn changing_to_the_same_value_changes_nothing() {
        given::<Account>([registered()])
            .when(Command::ChangeEmail { email: email("ADA@example.org") })
            .then([]);
        given::<Account>([registered()]).when(Command::ChangeUsername { username: username("Ada") }).then([]);
    }

    #[test]
    fn a_closed_account_cannot_change_its_email() {
        given::<Account>([registered(), Event::Closed {}])
            .when(Command::ChangeEmail { email: email("a@example.org") })
            .rejected(CLOSED);
    }

    #[test]
    fn an_account_holds_its_latest_email_until_it_is_closed() {
        let changed = Event::EmailChanged { email: email("lovelace@example.org") };
        given::<Account>([registered(), changed.clone()]).then_claims([
            Claim::new(EMAIL_TAKEN, "lovelace@example.org"),
            Claim::new(USERNAME_TAKEN, "ada"),
        ]);
        given::<Account>([registered(), changed, Event::Closed {}]).then_claims([]);
    }
}
