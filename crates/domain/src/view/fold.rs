//! Rows of a view in memory, while events are applied to them.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::{Recorded, Touch, View};

/// Rows of one view. What was loaded or made stays known until it is forgotten.
pub trait Fold: Send + Sync {
    /// Whether the row with this key, or that there is none, is known.
    fn knows(&self, key: &str) -> bool;

    /// How many rows are known.
    fn len(&self) -> usize;

    /// Whether no row is known.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a stored row known, or that there is none.
    fn load(&mut self, key: String, row: Option<&str>) -> Result<(), serde_json::Error>;

    /// The keys of the known rows that an event touches.
    fn touched(&self, touch: &Touch) -> Vec<String>;

    /// Applies an event to one row. A row that is not known is taken for one that is not there. If this
    /// panics, what is known of the row is wrong and must be forgotten.
    fn apply_to(&mut self, key: &str, recorded: &Recorded);

    /// Applies an event to the row, or to all known rows, that it touches.
    fn apply(&mut self, recorded: &Recorded, touch: &Touch) {
        match touch {
            Touch::Nothing => {}
            Touch::Row(key) => self.apply_to(key, recorded),
            Touch::Rows { .. } => {
                for key in self.touched(touch) {
                    self.apply_to(&key, recorded);
                }
            }
        }
    }

    /// The keys of the rows to which events were applied, in order, so that two who write them could never
    /// lock rows crosswise.
    fn changed(&self) -> Vec<String>;

    /// How many they are at the most.
    fn changed_count(&self) -> usize;

    /// Those of these rows that are not what they were, for the database.
    fn encode(&self, keys: &[String]) -> Result<Encoded, serde_json::Error>;

    /// Those of these rows that are not what they were, before and after.
    fn changes(&self, keys: &[String]) -> Result<Vec<Change>, serde_json::Error>;

    /// What was changed is stored now. Forgets all rows if there are more than `rows_max`.
    fn settle(&mut self, rows_max: usize);

    fn forget(&mut self, key: &str);
}

/// Rows on their way to the database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// A JSON array of the rows that are there.
    pub rows: String,
    /// How many those are.
    pub count: usize,
    /// The keys of the rows that are there no longer.
    pub gone: Vec<String>,
}

/// A row before and after a fold.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

pub(super) fn new<V: View>() -> Box<dyn Fold> {
    Box::new(Rows::<V> { rows: HashMap::new(), changed: Vec::new(), found: Found::default() })
}

struct Rows<V: View> {
    rows: HashMap<String, Row<V::Row>>,
    /// The keys of the rows with a `before`.
    changed: Vec<String>,
    found: Found,
}

struct Row<R> {
    /// As it is stored, once events were applied to it.
    before: Option<Option<R>>,
    now: Option<R>,
}

impl<R: PartialEq> Row<R> {
    /// What it was, if it is another now.
    fn changed_from(&self) -> Option<&Option<R>> {
        self.before.as_ref().filter(|before| **before != self.now)
    }
}

impl<V: View> Fold for Rows<V> {
    fn knows(&self, key: &str) -> bool {
        self.rows.contains_key(key)
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn load(&mut self, key: String, row: Option<&str>) -> Result<(), serde_json::Error> {
        let now: Option<V::Row> = row.map(serde_json::from_str).transpose()?;
        self.found.moved::<V>(&key, None, now.as_ref());
        self.rows.insert(key, Row { before: None, now });
        Ok(())
    }

    fn touched(&self, touch: &Touch) -> Vec<String> {
        match touch {
            Touch::Nothing => Vec::new(),
            Touch::Row(key) => vec![key.clone()],
            Touch::Rows { column, value } => self.found.by(column, value),
        }
    }

    fn apply_to(&mut self, key: &str, recorded: &Recorded) {
        let row = match self.rows.get_mut(key) {
            Some(row) => row,
            None => self.rows.entry(key.to_owned()).or_insert(Row { before: None, now: None }),
        };
        if row.before.is_none() {
            row.before = Some(row.now.clone());
            self.changed.push(key.to_owned());
        }
        let was = if V::FOUND_BY.is_empty() { None } else { row.now.clone() };
        row.now = V::apply(row.now.take(), recorded);
        self.found.moved::<V>(key, was.as_ref(), row.now.as_ref());
    }

    fn changed(&self) -> Vec<String> {
        let mut keys = self.changed.clone();
        keys.sort_unstable();
        keys
    }

    fn changed_count(&self) -> usize {
        self.changed.len()
    }

    fn encode(&self, keys: &[String]) -> Result<Encoded, serde_json::Error> {
        let mut rows = Vec::new();
        let mut encoded = Encoded::default();
        for key in keys {
            let Some(row) = self.rows.get(key).filter(|row| row.changed_from().is_some()) else { continue };
            let Some(now) = &row.now else {
                encoded.gone.push(key.clone());
                continue;
            };
            rows.push(if encoded.count == 0 { b'[' } else { b',' });
            serde_json::to_writer(&mut rows, now)?;
            encoded.count += 1;
        }
        rows.extend_from_slice(if encoded.count == 0 { b"[]" } else { b"]" });
        encoded.rows = String::from_utf8(rows).expect("serde_json writes UTF-8");
        Ok(encoded)
    }

    fn changes(&self, keys: &[String]) -> Result<Vec<Change>, serde_json::Error> {
        let changed = keys.iter().filter_map(|key| {
            let row = self.rows.get(key)?;
            Some((key, row.changed_from()?, &row.now))
        });
        changed
            .map(|(key, before, now)| {
                Ok(Change { key: key.clone(), before: to_value(before)?, after: to_value(now)? })
            })
            .collect()
    }

    fn settle(&mut self, rows_max: usize) {
        let changed = std::mem::take(&mut self.changed);
        if self.rows.len() > rows_max {
            self.rows = HashMap::new();
            self.found = Found::default();
            return;
        }
        for key in changed {
            if let Some(row) = self.rows.get_mut(&key) {
                row.before = None;
            }
        }
    }

    fn forget(&mut self, key: &str) {
        if let Some(row) = self.rows.remove(key) {
            self.found.moved::<V>(key, row.now.as_ref(), None);
        }
        self.changed.retain(|changed| changed != key);
    }
}

fn to_value<R: Serialize>(row: &Option<R>) -> Result<Option<Value>, serde_json::Error> {
    row.as_ref().map(serde_json::to_value).transpose()
}

/// The known rows by their values in the columns of [`View::FOUND_BY`].
#[derive(Default)]
struct Found(HashMap<&'static str, HashMap<String, BTreeSet<String>>>);

impl Found {
    fn by(&self, column: &str, value: &str) -> Vec<String> {
        let keys = self.0.get(column).and_then(|values| values.get(value));
        keys.map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    /// A row has become another; costs nothing for views whose rows are found by their key alone.
    fn moved<V: View>(&mut self, key: &str, before: Option<&V::Row>, after: Option<&V::Row>) {
        if V::FOUND_BY.is_empty() {
            return;
        }
        let value = |row: Option<&V::Row>| row.and_then(|row| serde_json::to_value(row).ok());
        let (before, after) = (value(before), value(after));
        for column in V::FOUND_BY {
            let text = |row: &Option<Value>| row.as_ref().and_then(|row| text(row.get(column)?));
            let (before, after) = (text(&before), text(&after));
            if before == after {
                continue;
            }
            let values = self.0.entry(column).or_default();
            if let Some(keys) = before.as_ref().and_then(|before| values.get_mut(before)) {
                keys.remove(key);
            }
            if let Some(after) = after {
                values.entry(after).or_default().insert(key.to_owned());
            }
        }
    }
}

/// A value as [`Touch::Rows`] writes it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    use super::*;
    use crate::{Event, Kind, Timestamp, account, view::Definition};

    /// Whoever has registered, by region; the name "flood" moves everybody of the region `eu` to `us`.
    struct Regions;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Person {
        id: String,
        region: Option<String>,
        moves: u32,
    }

    impl View for Regions {
        const NAME: &'static str = "regions";
        const KEY: &'static str = "id";
        const VERSION: i32 = 1;
        const AGGREGATES: &'static [Kind] = &[Kind::Account];
        const FOUND_BY: &'static [&'static str] = &["region"];
        type Row = Person;

        fn touches(recorded: &Recorded) -> Touch {
            match &recorded.event {
                Event::Account(account::Event::Renamed { .. }) => {
                    Touch::Rows { column: "region", value: "eu".into() }
                }
                _ => Touch::Row(recorded.id.to_string()),
            }
        }

        fn apply(row: Option<Person>, recorded: &Recorded) -> Option<Person> {
            match &recorded.event {
                Event::Account(account::Event::Registered { region, .. }) => Some(Person {
                    id: recorded.id.to_string(),
                    region: region.as_ref().map(|region| region.as_str().to_owned()),
                    moves: 0,
                }),
                Event::Account(account::Event::Renamed { .. }) => {
                    row.map(|row| Person { region: Some("us".into()), moves: row.moves + 1, ..row })
                }
                Event::Account(account::Event::Closed {}) => None,
                _ => row,
            }
        }
    }

    fn event(id: u128, event_type: &str, data: &str) -> Recorded {
        Recorded {
            position: 1,
            time: Timestamp::EARLIEST,
            id: Uuid::from_u128(id),
            event: Event::decode(event_type, 1, data).unwrap(),
        }
    }

    fn registered(id: u128, region: &str) -> Recorded {
        let data = format!(r#"{{"email":"a{id}@example.org","username":"user-{id}","region":"{region}"}}"#);
        event(id, "account.registered", &data)
    }

    fn folded(events: &[Recorded]) -> Box<dyn Fold> {
        let definition = Definition::of::<Regions>();
        let mut fold = (definition.fold)();
        events.iter().for_each(|recorded| fold.apply(recorded, &(definition.touches)(recorded)));
        fold
    }

    fn moves(fold: &dyn Fold) -> Vec<u64> {
        let changes = fold.changes(&fold.changed()).unwrap();
        changes.iter().map(|change| change.after.as_ref().unwrap()["moves"].as_u64().unwrap()).collect()
    }

    #[test]
    fn an_event_touches_all_rows_that_have_a_value_at_its_time() {
        let flood = || event(9, "account.renamed", r#"{"name":"flood"}"#);
        let fold = folded(&[registered(1, "eu"), registered(2, "us"), flood(), registered(3, "eu"), flood()]);
        assert_eq!(moves(fold.as_ref()), [1, 0, 1]);
    }

    #[test]
    fn stored_rows_are_found_by_their_values_as_new_ones_are() {
        let mut fold = folded(&[]);
        let row = |id: &str, region: &str| format!(r#"{{"id":"{id}","region":"{region}","moves":0}}"#);
        fold.load("a".into(), Some(&row("a", "eu"))).unwrap();
        fold.load("b".into(), Some(&row("b", "us"))).unwrap();
        fold.forget("b");
        assert_eq!(fold.touched(&Touch::Rows { column: "region", value: "eu".into() }), ["a"]);
        assert!(fold.touched(&Touch::Rows { column: "region", value: "us".into() }).is_empty());
    }

    #[test]
    fn a_row_is_written_only_if_it_is_not_what_it_was() {
        let mut fold = folded(&[registered(1, "eu")]);
        let keys = fold.changed();
        assert_eq!(fold.encode(&keys).unwrap().count, 1);
        fold.settle(10);
        assert!(fold.knows(&keys[0]) && fold.changed().is_empty());
        fold.apply_to(&keys[0], &registered(1, "eu"));
        assert_eq!(fold.encode(&keys).unwrap(), Encoded { rows: "[]".into(), count: 0, gone: vec![] });
        fold.apply_to(&keys[0], &event(1, "account.closed", "{}"));
        assert_eq!(fold.encode(&keys).unwrap().gone, keys);
    }

    #[test]
    fn more_rows_than_may_be_kept_are_forgotten_once_they_are_stored() {
        let mut fold = folded(&[registered(1, "eu"), registered(2, "eu")]);
        fold.settle(1);
        assert!(
            fold.is_empty() && fold.touched(&Touch::Rows { column: "region", value: "eu".into() }).is_empty()
        );
    }
}
