//! What an aggregate is, and what the runtime gives it to decide with.

use std::{
    borrow::Cow,
    fmt::Debug,
    hash::{Hash, Hasher},
};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    application::{Kind, State},
    upcast::Upcasts,
    values::Timestamp,
};

/// The thing that a command addresses: a state, and pure functions over it. The default state is that of
/// an aggregate to which nothing has happened yet. States are stored, as JSON.
pub trait Aggregate: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// Leads the names of its events: `account` makes `account.registered`.
    const NAME: &'static str;
    /// Stands in URLs: `POST /accounts/{id}/register`.
    const PLURAL: &'static str;
    /// How older versions of its events are read; see [`crate::upcast`].
    const UPCASTS: Upcasts = Upcasts::NONE;
    /// To be raised when the state's JSON, `evolve` or `claims` change: stored states are then thrown away
    /// and folded again.
    const STATE_VERSION: u32;
    /// All that `decide` and `claims` may refuse a command with: what the service's document says of it.
    const REJECTIONS: &'static [Rejection];

    /// A wish. Its variants' names are the last part of the URL; its fields are the request's body. What is
    /// written above a variant or a field stands in the service's document, too.
    type Command: Clone + Debug + Serialize + DeserializeOwned + JsonSchema;
    /// A fact. Its variants' names are the last part of the event's type. Its schema says which columns analysts get.
    type Event: Clone + Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema;

    /// What follows from the command: events, none if nothing changes, or a rejection.
    fn decide(&self, command: Self::Command, context: &Context<'_>) -> Result<Vec<Self::Event>, Rejection>;

    /// The state after the event. Never refuses: what happened, happened.
    fn evolve(self, event: &Self::Event) -> Self;

    /// Whose an aggregate in this state is; before its first event, whose this command would make it. `id` is the
    /// aggregate's. Looked at for callers who may command their own only.
    fn owner(&self, id: Uuid, command: &Self::Command) -> Owner;

    /// The unique values that an aggregate in this state holds. A command that would make it hold a value
    /// that another aggregate holds is rejected by the runtime.
    fn claims(&self) -> Vec<Claim>;
}

/// Who may command an aggregate as their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever may give the command: aggregates of this kind belong to nobody in particular.
    Everybody,
    /// The subject with this name.
    Subject(Uuid),
    /// There is nothing yet that could be somebody's.
    Nobody,
}

impl Owner {
    /// Whether `subject`, as it stands in a token, may. An id has one spelling there.
    pub fn is(self, subject: &str) -> bool {
        match self {
            Owner::Everybody => true,
            Owner::Subject(id) => *id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *subject,
            Owner::Nobody => false,
        }
    }
}

/// A unique value held by one aggregate at a time, such as an email address.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What a command is answered that wants a value held by another aggregate. It also tells claims of
    /// one kind from those of another.
    pub taken: Rejection,
    pub value: String,
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        (self.taken.code, &self.value) == (other.taken.code, &other.value)
    }
}

impl Eq for Claim {}

impl Hash for Claim {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.taken.code, &self.value).hash(state);
    }
}

impl Claim {
    pub fn new(taken: Rejection, value: impl Into<String>) -> Self {
        Self { taken, value: value.into() }
    }
}

/// What a decision may look at beside the state of its own aggregate.
pub struct Context<'a> {
    /// The time of the events that will be decided. It never goes back from one decision to the next.
    pub now: Timestamp,
    /// The states of all aggregates at this very point of the log.
    pub states: &'a dyn States,
}

/// Read access to the state of any aggregate: exact, because commands are decided in one order.
pub trait States {
    /// The state of an aggregate; that of one to which nothing has happened is its default.
    fn state(&self, kind: Kind, id: Uuid) -> Cow<'_, State>;
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{title}")]
pub struct Rejection {
    pub class: RejectionClass,
    /// Stable: clients branch on it, and `docs/problems/<code>.md` explains it.
    pub code: &'static str,
    pub title: &'static str,
}

/// What kind of refusal it is, as far as the outside needs to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionClass {
    /// Nothing has happened to the aggregate yet, so there is nothing to command.
    Missing,
    /// A claim is held by another aggregate.
    Taken,
    /// A rule of the business.
    Rule,
}

impl Rejection {
    pub const fn missing(code: &'static str, title: &'static str) -> Self {
        Self::new(RejectionClass::Missing, code, title)
    }

    pub const fn rule(code: &'static str, title: &'static str) -> Self {
        Self::new(RejectionClass::Rule, code, title)
    }

    pub const fn taken(code: &'static str, title: &'static str) -> Self {
        Self::new(RejectionClass::Taken, code, title)
    }

    const fn new(class: RejectionClass, code: &'static str, title: &'static str) -> Self {
        Self { class, code, title }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_named_by_its_id_in_one_spelling() {
        let ada = Owner::Subject(Uuid::from_u128(0xada));
        assert!(ada.is("00000000-0000-0000-0000-000000000ada"));
        for other in ["00000000-0000-0000-0000-000000000ADA", "00000000000000000000000000000ada", "ada", ""] {
            assert!(!ada.is(other), "{other}");
        }
        assert!(Owner::Everybody.is("whoever") && !Owner::Nobody.is("00000000-0000-0000-0000-000000000000"));
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    //! `given(events).when(command).then(events)`, in words.

    use std::collections::HashMap;

    use super::*;

    pub const NOW: Timestamp = Timestamp::from_micros_unchecked(1_000_000_000_000_000);

    /// An aggregate to which these events have happened.
    pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
        let state = events.into_iter().fold(A::default(), |state, event| state.evolve(&event));
        Given { state, others: Others::default() }
    }

    pub struct Given<A> {
        state: A,
        others: Others,
    }

    #[derive(Default)]
    struct Others(HashMap<Uuid, State>);

    impl States for Others {
        fn state(&self, kind: Kind, id: Uuid) -> Cow<'_, State> {
            self.0.get(&id).map_or_else(|| Cow::Owned(kind.initial()), Cow::Borrowed)
        }
    }

    impl<A: Aggregate> Given<A> {
        pub fn and(mut self, id: Uuid, state: State) -> Self {
            self.others.0.insert(id, state);
            self
        }

        pub fn when(self, command: A::Command) -> Decision<A> {
            Decision(self.state.decide(command, &Context { now: NOW, states: &self.others }))
        }

        pub fn then_claims(self, claims: impl Into<Vec<Claim>>) {
            assert_eq!(self.state.claims(), claims.into());
        }

        pub fn owner(&self, id: Uuid, command: &A::Command) -> Owner {
            self.state.owner(id, command)
        }
    }

    pub struct Decision<A: Aggregate>(Result<Vec<A::Event>, Rejection>);

    impl<A: Aggregate> Decision<A> {
        pub fn then(self, events: impl Into<Vec<A::Event>>) {
            assert_eq!(self.0, Ok(events.into()));
        }

        pub fn rejected(self, rejection: Rejection) {
            assert_eq!(self.0, Err(rejection));
        }
    }

    pub mod account {
        use crate::{State, account::Account, values::*};

        pub fn active() -> State {
            State::Account(Account::Active {
                email: Email::parse("ada@example.org").unwrap(),
                username: Username::parse("ada").unwrap(),
                name: None,
            })
        }

        pub fn closed() -> State {
            State::Account(Account::Closed)
        }
    }
}
