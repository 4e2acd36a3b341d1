//! What a caller may command. The scopes are the domain's own names: `account:close` is for one's own account,
//! `account:close:any` for everybody's.

use domain::{Command, State};
use serde::{Deserialize, Serialize};
use service_kit::{
    Problem,
    auth::{Caller, Reach},
};
use uuid::Uuid;

/// Which aggregates a command may be for. It goes with the command to whoever decides it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permit {
    Any,
    /// Those of this subject.
    Own(String),
}

impl Permit {
    pub fn of(caller: &Caller, command: &Command) -> Result<Self, Problem> {
        let (thing, action) = (command.kind().name(), command.name());
        match caller.reach(thing, &action) {
            Reach::Nothing => Err(Caller::lacks(thing, &action)),
            Reach::Own(subject) => Ok(Self::Own(subject.to_string())),
            Reach::Any => Ok(Self::Any),
        }
    }

    /// Whether the command may be decided at all, given the state of the aggregate that it is for.
    pub fn allows(&self, state: &State, id: Uuid, command: &Command) -> bool {
        match self {
            Self::Any => true,
            Self::Own(subject) => state.owner(id, command).is(subject),
        }
    }

    /// The subject whose aggregates they are.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Own(subject) => Some(subject),
        }
    }
}
