//! `events/<type>/<version>.jsonl`: data of events as they stand in logs. Beside an older version,
//! `<version>.as-<current>.jsonl` has line by line what the upcasters make of it.

use domain::{Upcasts, tagged};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{files::Golden, schema::Schema};

/// What is wrong with the golden samples of an aggregate's events, or with the events, seen from them.
pub fn complaints<E>(
    golden: &Golden,
    aggregate: &str,
    upcasts: Upcasts,
    samples: fn() -> Vec<E>,
) -> Vec<String>
where
    E: Serialize + DeserializeOwned,
{
    let mut complaints = Vec::new();
    let schema = Schema::default();
    let names = Schema::variants::<E>();
    for name in &names {
        let folder = format!("events/{aggregate}.{name}");
        let current = upcasts.version(name);
        complaints.extend(current_version(golden, &folder, aggregate, name, current, samples, &schema).err());
        for version in 1..current {
            complaints.extend(older_version::<E>(golden, &folder, name, version, upcasts).err());
        }
        for file in golden.names(&folder) {
            let version = file.split('.').next().and_then(|version| version.parse::<u32>().ok());
            if !version.is_some_and(|version| (1..=current).contains(&version)) {
                complaints.push(format!("{folder}/{file} is of no version up to {current}, the current one"));
            }
        }
    }
    for event_type in golden.names("events") {
        let name = event_type.split_once('.').filter(|(prefix, _)| *prefix == aggregate);
        if name.is_some_and(|(_, name)| !names.iter().any(|known| known == name)) {
            complaints.push(format!("`{event_type}` stands in logs, but there is no such event any more"));
        }
    }
    for (name, _) in upcasts.0 {
        if !names.iter().any(|known| known == name) {
            complaints.push(format!("there are upcasters for `{name}`, but no such event"));
        }
    }
    // What could not be read was not seen in full.
    if complaints.is_empty() { schema.gaps() } else { complaints }
}

/// Samples of the current version read and write as they are.
fn current_version<E: Serialize + DeserializeOwned>(
    golden: &Golden,
    folder: &str,
    aggregate: &str,
    name: &str,
    version: u32,
    samples: fn() -> Vec<E>,
    schema: &Schema,
) -> Result<(), String> {
    let file = format!("{folder}/{version}.jsonl");
    let encoded = || {
        let samples = samples();
        let encoded = samples.iter().map(tagged::encode).filter(|(sample, _)| sample == name);
        encoded.map(|(_, data)| data.get().to_owned()).collect()
    };
    for line in golden.lines(&file, encoded)? {
        let event = tagged::decode::<E>(name, &line)
            .map_err(|error| format!("{file}: a sample cannot be read any more: {error}: {line}"))?;
        let (_, data) = tagged::encode(&event);
        if data.get() != line {
            return Err(format!("{file}: a sample reads well, but is written otherwise: {line}, now {data}"));
        }
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        schema.trace::<E>(aggregate, &json!({ name: value })).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Samples of an older version read as the events that are recorded beside them.
fn older_version<E: Serialize + DeserializeOwned>(
    golden: &Golden,
    folder: &str,
    name: &str,
    version: u32,
    upcasts: Upcasts,
) -> Result<(), String> {
    let file = format!("{folder}/{version}.jsonl");
    let mut upcast = Vec::new();
    for line in golden.lines(&file, Vec::new)? {
        let event = upcasts
            .decode::<E>(name, version, &line)
            .map_err(|error| format!("{file}: a sample cannot be read: {error}: {line}"))?;
        upcast.push(tagged::encode(&event).1.get().to_owned());
    }
    let beside = format!("{folder}/{version}.as-{}.jsonl", upcasts.version(name));
    let expected = golden.lines(&beside, || upcast.clone())?;
    if upcast != expected {
        return Err(format!("{beside}: the upcasters give something else: {upcast:#?}"));
    }
    Ok(())
}
