//! The golden samples notice what they are for: each kind of change is made to an event of an example, and
//! is complained about.

mod states;
mod versions;

use domain::{
    Upcasts,
    values::{Name, Quantity, Region, Username},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::TempDir;

use crate::{events, files::Golden};

/// An event as its type stands in logs, under any declaration.
macro_rules! parcel_event {
    ($event:ident { $($field:tt)* }) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        enum $event { Posted { $($field)* } }
    };
}

use parcel_event;

parcel_event!(Parcel {
    to: Name,
    weight: Quantity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Name>,
});

fn posted(to: &str, weight: i64, note: Option<&str>) -> Parcel {
    Parcel::Posted {
        to: Name::parse(to).unwrap(),
        weight: Quantity::try_from(weight).unwrap(),
        note: note.map(|note| Name::parse(note).unwrap()),
    }
}

fn samples() -> Vec<Parcel> {
    vec![posted("Ada Lovelace", 1, None), posted("Blaise", 1000, Some("fragile"))]
}

/// The golden samples of the example in version 1.
fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let golden = Golden::in_folder(folder.path(), true);
    assert_eq!(events::complaints(&golden, "parcel", Upcasts::NONE, samples), [""; 0]);
    folder
}

/// The change is complained about in these words.
#[track_caller]
fn noticed<E: Serialize + DeserializeOwned>(words: &str) {
    let folder = written();
    let golden = Golden::in_folder(folder.path(), false);
    let complaints = events::complaints::<E>(&golden, "parcel", Upcasts::NONE, Vec::new);
    assert!(complaints.iter().any(|complaint| complaint.contains(words)), "{complaints:#?}");
}

#[test]
fn what_did_not_change_is_not_complained_about() {
    let folder = written();
    let golden = Golden::in_folder(folder.path(), false);
    assert_eq!(events::complaints::<Parcel>(&golden, "parcel", Upcasts::NONE, Vec::new), [""; 0]);
}

#[test]
fn a_new_optional_field_is_noticed() {
    parcel_event!(Changed {
        to: Name,
        weight: Quantity,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depot: Option<Region>,
    });
    noticed::<Changed>("no sample of the current version has `parcel.posted.depot`");
}

#[test]
fn a_new_field_with_a_default_is_noticed() {
    parcel_event!(Changed {
        to: Name,
        weight: Quantity,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_urgent: bool,
    });
    noticed::<Changed>("no sample of the current version has `parcel.posted.is_urgent`");
}

#[test]
fn a_removed_field_is_noticed() {
    parcel_event!(Changed { to: Name, weight: Quantity });
    noticed::<Changed>("is written otherwise");
}

#[test]
fn a_renamed_field_is_noticed_also_if_its_old_name_is_read() {
    parcel_event!(Changed {
        #[serde(alias = "to")]
        addressee: Name,
        weight: Quantity,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
    });
    noticed::<Changed>("is written otherwise");
}

#[test]
fn an_optional_field_that_is_now_required_is_noticed() {
    parcel_event!(Changed { to: Name, weight: Quantity, note: Name });
    noticed::<Changed>("missing field `note`");
}

#[test]
fn a_required_field_that_is_now_optional_is_noticed() {
    parcel_event!(Changed {
        to: Name,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<Quantity>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
    });
    noticed::<Changed>("is without the optional `parcel.posted.weight`");
}

#[test]
fn a_stricter_value_is_noticed() {
    parcel_event!(Changed {
        // No spaces any more.
        to: Username,
        weight: Quantity,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
    });
    noticed::<Changed>("cannot be read any more");
}

#[test]
fn a_value_that_is_written_otherwise_is_noticed() {
    parcel_event!(Changed {
        to: Name,
        #[serde(serialize_with = "as_text")]
        weight: Quantity,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
    });
    fn as_text<S: serde::Serializer>(weight: &Quantity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&weight.get())
    }
    noticed::<Changed>("is written otherwise");
}

#[test]
fn fields_in_another_order_are_noticed() {
    parcel_event!(Changed {
        weight: Quantity,
        to: Name,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Name>,
    });
    noticed::<Changed>("is written otherwise");
}

#[test]
fn an_event_that_is_new_or_gone_is_noticed() {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Changed {
        Sent { to: Name },
    }
    noticed::<Changed>("`parcel.posted` stands in logs, but there is no such event any more");
    noticed::<Changed>("events/parcel.sent/1.jsonl is missing");
}
