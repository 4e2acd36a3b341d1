//! An account that registers, once.

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
pub struct Account {
    pub is_registered: bool,
}

#[derive(Deserialize)]
pub struct Register {
    email: String,
    username: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccountEvent {
    Registered { email: String, username: String },
}

impl DomainEvent for AccountEvent {
    fn event_type(&self) -> String {
        "account.registered".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the account is already registered")]
    AlreadyRegistered,
    #[error("`{0}` is not an email address")]
    NoEmail(String),
    #[error("`{0}` is not a username")]
    NoUsername(String),
}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = Register;
    type Event = AccountEvent;
    type Error = Refused;
    type Services = ();

    async fn handle(&mut self, command: Register, (): &(), sink: &EventSink<Self>) -> Result<(), Refused> {
        if self.is_registered {
            return Err(Refused::AlreadyRegistered);
        }
        let Register { email, username } = command;
        let (email, username) = (email.trim().to_lowercase(), username.trim().to_lowercase());
        if !email.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.')) {
            return Err(Refused::NoEmail(email));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(2..=32).contains(&username.len()) || !username.chars().all(allowed) {
            return Err(Refused::NoUsername(username));
        }
        sink.write(AccountEvent::Registered { email, username }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::Registered { .. } => self.is_registered = true,
        }
    }
}
