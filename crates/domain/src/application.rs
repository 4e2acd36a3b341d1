//! The list of the application's aggregates, and one type for "any of them": what the writer, which
//! knows no aggregate by name, keeps, decides and stores.

use schemars::SchemaGenerator;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    Aggregate, Claim, Context, Owner, Rejection,
    account::Account,
    order::Order,
    tagged::{self, DecodeError, Variant},
    upcast::UpcastError,
};

/// Makes the sums over all aggregates. A line of the list is all that a new aggregate needs here.
macro_rules! aggregates {
    ($($aggregate:ident),+ $(,)?) => {
        /// Which aggregate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($aggregate),+ }

        /// The state of any aggregate.
        #[derive(Clone, Debug, PartialEq)]
        pub enum State { $($aggregate($aggregate)),+ }

        /// A command to any aggregate.
        #[derive(Clone, Debug)]
        pub enum Command { $($aggregate(<$aggregate as Aggregate>::Command)),+ }

        /// An event of any aggregate.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event { $($aggregate(<$aggregate as Aggregate>::Event)),+ }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$aggregate),+];

            pub fn name(self) -> &'static str {
                match self { $(Kind::$aggregate => $aggregate::NAME),+ }
            }

            pub fn plural(self) -> &'static str {
                match self { $(Kind::$aggregate => $aggregate::PLURAL),+ }
            }

            /// The state of an aggregate to which nothing has happened.
            pub fn initial(self) -> State {
                match self { $(Kind::$aggregate => State::$aggregate($aggregate::default())),+ }
            }

            /// Reads a command from its name and its fields.
            pub fn command(self, name: &str, fields: &str) -> Result<Command, DecodeError> {
                match self { $(Kind::$aggregate => tagged::decode(name, fields).map(Command::$aggregate)),+ }
            }

            /// Every command to it, described; `generator` collects the schemas of the values in them.
            pub fn commands(self, generator: &mut SchemaGenerator) -> Vec<Variant> {
                match self { $(Kind::$aggregate => tagged::variants::<<$aggregate as Aggregate>::Command>(generator)),+ }
            }

            /// Every event of it, described as commands are.
            pub fn events(self, generator: &mut SchemaGenerator) -> Vec<Variant> {
                match self { $(Kind::$aggregate => tagged::variants::<<$aggregate as Aggregate>::Event>(generator)),+ }
            }

            /// All that a command to it may be rejected with.
            pub fn rejections(self) -> &'static [Rejection] {
                match self { $(Kind::$aggregate => $aggregate::REJECTIONS),+ }
            }

            fn event(self, name: &str, version: u32, data: &str) -> Result<Event, UpcastError> {
                match self {
                    $(Kind::$aggregate => $aggregate::UPCASTS.decode(name, version, data).map(Event::$aggregate)),+
                }
            }

            fn state_version(self) -> u32 {
                match self { $(Kind::$aggregate => $aggregate::STATE_VERSION),+ }
            }

            /// Reads a state that [`State::encode`] wrote under the same [`state_fingerprint`].
            pub fn decode_state(self, state: &[u8]) -> Result<State, serde_json::Error> {
                match self { $(Kind::$aggregate => serde_json::from_slice(state).map(State::$aggregate)),+ }
            }
        }

        impl State {
            pub fn decide(&self, command: Command, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
                match (self, command) {
                    $((State::$aggregate(state), Command::$aggregate(command)) => {
                        let events = state.decide(command, context)?;
                        Ok(events.into_iter().map(Event::$aggregate).collect())
                    })+
                    // States are looked up by the command's own kind.
                    (state, command) => unreachable!("{command:?} addressed to {state:?}"),
                }
            }

            pub fn evolve(self, event: &Event) -> State {
                match (self, event) {
                    $((State::$aggregate(state), Event::$aggregate(event)) => {
                        State::$aggregate(state.evolve(event))
                    })+
                    // States are looked up by the event's own kind.
                    (state, event) => unreachable!("{event:?} applied to {state:?}"),
                }
            }

            /// Whose the aggregate with this id is; see [`Aggregate::owner`].
            pub fn owner(&self, id: Uuid, command: &Command) -> Owner {
                match (self, command) {
                    $((State::$aggregate(state), Command::$aggregate(command)) => state.owner(id, command),)+
                    // States are looked up by the command's own kind.
                    (state, command) => unreachable!("{command:?} addressed to {state:?}"),
                }
            }

            pub fn claims(&self) -> Vec<Claim> {
                match self { $(State::$aggregate(state) => state.claims()),+ }
            }

            /// The state for a store. JSON, because values are read through the forms that people write.
            pub fn encode(&self) -> Vec<u8> {
                let json = match self { $(State::$aggregate(state) => serde_json::to_vec(state)),+ };
                json.expect("states have string keys and finite numbers")
            }
        }

        impl Command {
            pub fn kind(&self) -> Kind {
                match self { $(Command::$aggregate(_) => Kind::$aggregate),+ }
            }

            /// The command's name, as it stands in URLs and in scopes.
            pub fn name(&self) -> String {
                match self { $(Command::$aggregate(command) => tagged::name(command)),+ }
            }

            /// The command's name and fields in their canonical form.
            pub fn encode(&self) -> (String, Box<RawValue>) {
                match self { $(Command::$aggregate(command) => tagged::encode(command)),+ }
            }
        }

        impl Event {
            pub fn kind(&self) -> Kind {
                match self { $(Event::$aggregate(_) => Kind::$aggregate),+ }
            }

            /// The version that this event is written in.
            pub fn version(&self) -> u32 {
                match self { $(Event::$aggregate(event) => $aggregate::UPCASTS.version_of(event)),+ }
            }

            fn encode_data(&self) -> (String, Box<RawValue>) {
                match self { $(Event::$aggregate(event) => tagged::encode(event)),+ }
            }

            /// The event's data alone, in a buffer that can be used again.
            pub fn write_data<'a>(&self, json: &'a mut Vec<u8>) -> &'a str {
                match self { $(Event::$aggregate(event) => tagged::write(event, json).1),+ }
            }
        }
    };
}

aggregates!(Account, Order);

/// The versions of all states, such as `account:1,order:2`: whoever stores states throws them away and
/// folds them again when it is another one than they were stored under.
pub fn state_fingerprint() -> String {
    let versions = Kind::ALL.iter().map(|kind| format!("{}:{}", kind.name(), kind.state_version()));
    versions.collect::<Vec<_>>().join(",")
}

impl Kind {
    pub fn from_plural(plural: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.plural() == plural)
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl Event {
    /// The event's full type, such as `account.registered`, and its data.
    pub fn encode(&self) -> (String, Box<RawValue>) {
        let (name, data) = self.encode_data();
        (format!("{}.{name}", self.kind().name()), data)
    }

    /// Reads an event as it stands in the log.
    pub fn decode(event_type: &str, version: u32, data: &str) -> Result<Event, EventError> {
        let (kind, name) = event_type
            .split_once('.')
            .and_then(|(kind, name)| Some((Kind::from_name(kind)?, name)))
            .ok_or_else(|| EventError::UnknownType(event_type.to_owned()))?;
        let event_type = || event_type.to_owned();
        kind.event(name, version, data).map_err(|error| match error {
            UpcastError::UnknownVersion => EventError::UnknownVersion { event_type: event_type(), version },
            UpcastError::Data(DecodeError::UnknownName { .. }) => EventError::UnknownType(event_type()),
            UpcastError::Data(DecodeError::Content { path, message, .. }) => {
                EventError::Data { event_type: event_type(), path, message }
            }
        })
    }
}

/// An event in the log that this version of the application cannot read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("unknown event type `{0}`")]
    UnknownType(String),
    #[error("`{event_type}` in unknown version {version}")]
    UnknownVersion { event_type: String, version: u32 },
    #[error("`{event_type}` has unreadable data at `{path}`: {message}")]
    Data { event_type: String, path: String, message: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let event = Event::Account(crate::account::Event::Closed {});
        let (event_type, data) = event.encode();
        assert_eq!((event_type.as_str(), data.get()), ("account.closed", "{}"));
        assert_eq!(Event::decode(&event_type, event.version(), data.get()).unwrap(), event);
    }

    #[test]
    fn an_event_of_an_unknown_type_or_version_is_an_error() {
        assert!(matches!(Event::decode("account.exploded", 1, "{}"), Err(EventError::UnknownType(_))));
        assert!(matches!(Event::decode("planet.closed", 1, "{}"), Err(EventError::UnknownType(_))));
        for version in [0, 2, u32::MAX] {
            let event = Event::decode("account.closed", version, "{}");
            assert!(matches!(event, Err(EventError::UnknownVersion { .. })), "{version}: {event:?}");
        }
    }

    #[test]
    fn a_state_reads_back_as_it_was_written() {
        let state = crate::aggregate::test_support::account::active();
        let read = Kind::Account.decode_state(&state.encode()).unwrap();
        assert_eq!(read, state);
    }

    #[test]
    fn the_fingerprint_of_states_names_every_aggregate() {
        assert_eq!(state_fingerprint(), "account:1,order:2");
    }
}
