//! Which events are meant.

use anyhow::Result;
use domain::Kind;
use event_log::{Envelope, Target};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{moment, usage::usage};

/// What is not asked for by anything is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Names of aggregates.
    pub aggregates: Vec<String>,
    pub ids: Vec<Uuid>,
    /// Such as `account.registered`.
    pub types: Vec<String>,
}

impl Filter {
    /// Refuses names that nothing has, because a slip would look like an empty log.
    pub fn check(&self) -> Result<()> {
        let aggregates: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        if let Some(unknown) = self.aggregates.iter().find(|name| !aggregates.contains(&name.as_str())) {
            return Err(usage(format!(
                "there is no aggregate `{unknown}`; there are {}",
                aggregates.join(", ")
            )));
        }
        let types: Vec<String> =
            crate::event_table::event_types().into_iter().map(|event| event.name).collect();
        if let Some(unknown) = self.types.iter().find(|name| !types.contains(name)) {
            return Err(usage(format!("there is no event type `{unknown}`; there are {}", types.join(", "))));
        }
        Ok(())
    }

    pub fn lets_through(&self, envelope: &Envelope) -> bool {
        let aggregate = envelope.r#type.split_once('.').map_or("", |(aggregate, _)| aggregate);
        is_any(&self.aggregates, |name| name == aggregate)
            && is_any(&self.types, |name| *name == envelope.r#type)
            && is_any(&self.ids, |id| *id == envelope.subject)
    }
}

fn is_any<T>(wanted: &[T], is: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is)
}

/// A stretch of the log: from the event at `from` on, up to the one before `before`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub from: Option<Target>,
    pub before: Option<Target>,
}

impl Range {
    pub fn has_begun(&self, envelope: &Envelope) -> bool {
        self.from.is_none_or(|from| moment::is_reached(from, envelope))
    }

    pub fn is_over(&self, envelope: &Envelope) -> bool {
        self.before.is_some_and(|before| moment::is_reached(before, envelope))
    }
}
