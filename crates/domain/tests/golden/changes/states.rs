//! The same for stored states.

use domain::{Aggregate, Claim, Context, Owner, Rejection, account::Command};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Parcel, samples};
use crate::{files::Golden, states};

const TAKEN: Rejection = Rejection::taken("addressee-taken", "The addressee has a parcel already");

/// A state of the example, with `$fields` and how they come from the event.
macro_rules! parcel_state {
    ($state:ident { $($(#[$attribute:meta])* $field:ident: $type:ty = $from:expr),* $(,)? } claims $claims:expr) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct $state { $($(#[$attribute])* $field: $type),* }

        impl Aggregate for $state {
            const NAME: &'static str = "parcel";
            const PLURAL: &'static str = "parcels";
            const STATE_VERSION: u32 = 1;
            const REJECTIONS: &'static [Rejection] = &[TAKEN];
            // Of no concern here.
            type Command = Command;
            type Event = Parcel;

            fn decide(&self, _: Command, _: &Context<'_>) -> Result<Vec<Parcel>, Rejection> {
                Ok(vec![])
            }

            fn evolve(self, event: &Parcel) -> Self {
                let Parcel::Posted { to, weight, .. } = event;
                let _ = (to, weight);
                Self { $($field: $from(to.as_str(), weight.get())),* }
            }

            fn owner(&self, _: Uuid, _: &Command) -> Owner {
                Owner::Everybody
            }

            fn claims(&self) -> Vec<Claim> {
                let claims: fn(&Self) -> Vec<String> = $claims;
                claims(self).into_iter().map(|value| Claim::new(TAKEN, value)).collect()
            }
        }
    };
}

parcel_state!(State {
    to: String = |to: &str, _| to.to_owned(),
    weight: u32 = |_, weight| weight,
} claims |state| vec![state.to.clone()]);

#[track_caller]
fn noticed<A: Aggregate<Event = Parcel>>(words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let written = Golden::in_folder(folder.path(), true);
    let histories = || vec![vec![], samples()];
    assert_eq!(states::complaints::<State>(&written, histories), [""; 0]);
    let golden = Golden::in_folder(folder.path(), false);
    let complaints = states::complaints::<A>(&golden, histories);
    assert!(complaints.iter().any(|complaint| complaint.contains(words)), "{complaints:#?}");
}

#[test]
fn a_state_that_is_written_otherwise_is_noticed() {
    parcel_state!(Changed {
        #[serde(rename = "addressee", alias = "to")]
        to: String = |to: &str, _| to.to_owned(),
        weight: u32 = |_, weight| weight,
    } claims |state| vec![state.to.clone()]);
    noticed::<Changed>("the events now fold to");
}

#[test]
fn a_state_that_is_folded_otherwise_is_noticed() {
    parcel_state!(Changed {
        to: String = |to: &str, _| to.to_owned(),
        weight: u32 = |_, weight| weight * 1000,
    } claims |state| vec![state.to.clone()]);
    noticed::<Changed>("the events now fold to");
}

#[test]
fn other_claims_are_noticed() {
    parcel_state!(Changed {
        to: String = |to: &str, _| to.to_owned(),
        weight: u32 = |_, weight| weight,
    } claims |state| vec![state.to.to_lowercase()]);
    noticed::<Changed>("the events now fold to");
}

#[test]
fn a_field_that_is_not_stored_is_noticed() {
    parcel_state!(Changed {
        to: String = |to: &str, _| to.to_owned(),
        weight: u32 = |_, weight| weight,
        #[serde(skip)]
        is_heavy: bool = |_, weight| weight > 100,
    } claims |state| vec![state.to.clone()]);
    noticed::<Changed>("the state reads as another one");
}

#[test]
fn a_new_optional_field_is_noticed() {
    parcel_state!(Changed {
        to: String = |to: &str, _| to.to_owned(),
        weight: u32 = |_, weight| weight,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depot: Option<String> = |_, _| None,
    } claims |state| vec![state.to.clone()]);
    noticed::<Changed>("no sample of the current version has `parcel.depot`");
}
