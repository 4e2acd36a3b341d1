//! The example in its third version: version 2 names the sender's wish `wish`, not `note`; version 3
//! has grams, not kilograms.

use domain::{
    Upcasts,
    upcast::{Object, UpcastError},
    values::Name,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::parcel_event;
use crate::{events, files::Golden};

parcel_event!(ParcelV3 {
    to: Name,
    grams: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wish: Option<Name>,
});

const UPCASTS: Upcasts = Upcasts(&[("posted", &[posted_from_v1, posted_from_v2])]);

fn posted_from_v1(mut data: Object) -> Object {
    if let Some(note) = data.remove("note") {
        data.insert("wish".into(), note);
    }
    data
}

fn posted_from_v2(mut data: Object) -> Object {
    let kilograms = data.remove("weight").and_then(|weight| weight.as_u64()).unwrap_or(0);
    data.insert("grams".into(), json!(kilograms * 1000));
    data
}

fn posted(to: &str, grams: u64, wish: Option<&str>) -> ParcelV3 {
    let wish = wish.map(|wish| Name::parse(wish).unwrap());
    ParcelV3::Posted { to: Name::parse(to).unwrap(), grams, wish }
}

fn decode(version: u32, data: Value) -> Result<ParcelV3, UpcastError> {
    UPCASTS.decode("posted", version, &data.to_string())
}

#[test]
fn every_version_reads_as_the_current_event() {
    let expected = posted("Ada", 2000, Some("fragile"));
    for (version, data) in [
        (1, json!({"to": "Ada", "weight": 2, "note": "fragile"})),
        (2, json!({"to": "Ada", "weight": 2, "wish": "fragile"})),
        (3, json!({"to": "Ada", "grams": 2000, "wish": "fragile"})),
    ] {
        assert_eq!(decode(version, data).unwrap(), expected, "version {version}");
    }
    assert_eq!(UPCASTS.version_of(&expected), 3);
}

#[test]
fn a_version_from_the_future_is_unknown() {
    for version in [0, 4] {
        let event = decode(version, json!({"to": "Ada", "grams": 2000}));
        assert!(matches!(event, Err(UpcastError::UnknownVersion)), "{event:?}");
    }
}

#[test]
fn old_data_that_is_no_object_is_an_error() {
    assert!(matches!(decode(1, json!([])), Err(UpcastError::Data(_))));
}

fn samples() -> Vec<ParcelV3> {
    vec![posted("Ada", 2000, Some("fragile")), posted("Ada", u64::MAX, None)]
}

/// The samples of version 1, and those of version 2 and 3 beside them.
fn written() -> TempDir {
    let folder = super::written();
    let version_2 = folder.path().join("events/parcel.posted/2.jsonl");
    std::fs::write(version_2, "{\"to\":\"Ada\",\"weight\":2,\"wish\":\"fragile\"}\n").unwrap();
    let golden = Golden::in_folder(folder.path(), true);
    assert_eq!(events::complaints(&golden, "parcel", UPCASTS, samples), [""; 0]);
    folder
}

#[track_caller]
fn noticed<E: Serialize + DeserializeOwned>(upcasts: Upcasts, folder: &TempDir, words: &str) {
    let golden = Golden::in_folder(folder.path(), false);
    let complaints = events::complaints::<E>(&golden, "parcel", upcasts, Vec::new);
    assert!(complaints.iter().any(|complaint| complaint.contains(words)), "{complaints:#?}");
}

#[test]
fn the_samples_of_a_new_version_must_be_written() {
    noticed::<ParcelV3>(UPCASTS, &super::written(), "events/parcel.posted/3.jsonl is missing");
    noticed::<ParcelV3>(UPCASTS, &super::written(), "events/parcel.posted/1.as-3.jsonl is missing");
}

#[test]
fn the_samples_of_an_older_version_must_be_kept() {
    let folder = written();
    std::fs::remove_file(folder.path().join("events/parcel.posted/2.jsonl")).unwrap();
    noticed::<ParcelV3>(UPCASTS, &folder, "events/parcel.posted/2.jsonl is missing");
}

#[test]
fn an_upcaster_that_does_something_else_is_noticed() {
    fn posted_from_v2(mut data: Object) -> Object {
        let kilograms = data.remove("weight").and_then(|weight| weight.as_u64()).unwrap_or(0);
        data.insert("grams".into(), json!(kilograms * 1024));
        data
    }
    const CHANGED: Upcasts = Upcasts(&[("posted", &[posted_from_v1, posted_from_v2])]);
    noticed::<ParcelV3>(CHANGED, &written(), "the upcasters give something else");
}

#[test]
fn an_upcaster_that_is_missing_or_misnamed_is_noticed() {
    const SHORT: Upcasts = Upcasts(&[("posted", &[posted_from_v1])]);
    noticed::<ParcelV3>(SHORT, &written(), "3.jsonl is of no version up to 2");
    const MISNAMED: Upcasts = Upcasts(&[("sent", &[posted_from_v1, posted_from_v2])]);
    noticed::<ParcelV3>(MISNAMED, &written(), "there are upcasters for `sent`, but no such event");
}
