//! Rows of a view in memory, while events are applied to them.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{Lines, Recorded, Touch, View};

/// Rows of one view. What was loaded or made stays known until it is forgotten.
pub trait Fold: Send + Sync {
    /// Whether the row with this key, or that there is none, is known.
    fn knows(&self, key: &str) -> bool;

    /// About how much memory is taken by the rows that are known since the last [`Fold::settle`] that let go of
    /// others.
    fn bytes(&self) -> usize;

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

    /// Those of these rows that are not what they were, for the database. With `copies`, new ones as lines.
    fn encode(&self, keys: &[String], copies: bool) -> Result<Encoded, serde_json::Error>;

    /// Those of these rows that are not what they were, before and after.
    fn changes(&self, keys: &[String]) -> Result<Vec<Change>, serde_json::Error>;

    /// What was changed is stored now, or will be before this is called again. If the known rows take more than
    /// `bytes_max`, those are let go of that were let go of before already and not touched since.
    fn settle(&mut self, bytes_max: usize);

    fn forget(&mut self, key: &str);
}

/// Rows on their way to the database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// Rows that are not there yet.
    pub new: Lines,
    /// A JSON array of other rows, of which some may not be there yet either.
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
    let (rows, former) = (HashMap::new(), HashMap::new());
    Box::new(Rows::<V> { rows, former, changed: Vec::new(), found: Found::default() })
}

struct Rows<V: View> {
    rows: HashMap<String, Row<V::Row>>,
    /// The rows that were let go of last. They may be on their way to the database still.
    former: HashMap<String, Row<V::Row>>,
    /// The keys of the rows to which events were applied.
    changed: Vec<String>,
    found: Found,
}

struct Row<R> {
    now: Option<R>,
    stored: Stored<R>,
}

/// A row as it is stored.
enum Stored<R> {
    /// No event was applied since.
    Same,
    Nothing,
    Row(Box<R>),
}

impl<R: PartialEq> Row<R> {
    fn known(now: Option<R>) -> Self {
        Self { now, stored: Stored::Same }
    }

    fn is_changed(&self) -> bool {
        match (&self.stored, &self.now) {
            (Stored::Same, _) | (Stored::Nothing, None) => false,
            (Stored::Nothing, Some(_)) | (Stored::Row(_), None) => true,
            (Stored::Row(stored), Some(now)) => **stored != *now,
        }
    }
}

/// A key of a few dozen characters, and what the allocator needs.
const KEY_BYTES: usize = 64;

impl<V: View> Fold for Rows<V> {
    fn knows(&self, key: &str) -> bool {
        self.rows.contains_key(key) || self.former.contains_key(key)
    }

    fn bytes(&self) -> usize {
        // The table is at the most seven eighths full.
        self.rows.capacity() * (size_of::<(String, Row<V::Row>)>() + 1) + self.rows.len() * KEY_BYTES
    }

    fn load(&mut self, key: String, row: Option<&str>) -> Result<(), serde_json::Error> {
        let now: Option<V::Row> = row.map(serde_json::from_str).transpose()?;
        self.found.moved::<V>(&key, None, now.as_ref());
        self.rows.insert(key, Row::known(now));
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
            None => {
                let (key, row) = match self.former.remove_entry(key) {
                    Some(former) => former,
                    None => (key.to_owned(), Row::known(None)),
                };
                self.rows.entry(key).or_insert(row)
            }
        };
        if matches!(row.stored, Stored::Same) {
            row.stored = row.now.clone().map_or(Stored::Nothing, |row| Stored::Row(Box::new(row)));
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

    fn encode(&self, keys: &[String], mut copies: bool) -> Result<Encoded, serde_json::Error> {
        let mut rows = Vec::new();
        let mut encoded = Encoded::default();
        for key in keys {
            let Some(row) = self.rows.get(key).filter(|row| row.is_changed()) else { continue };
            let Some(now) = &row.now else {
                encoded.gone.push(key.clone());
                continue;
            };
            if copies && matches!(row.stored, Stored::Nothing) {
                // Rows of this type cannot be lines; nobody need try again.
                copies = encoded.new.push(now).is_ok();
                if copies {
                    continue;
                }
            }
            rows.push(if encoded.count == 0 { b'[' } else { b',' });
            serde_json::to_writer(&mut rows, now)?;
            encoded.count += 1;
        }
        rows.extend_from_slice(if encoded.count == 0 { b"[]" } else { b"]" });
        encoded.rows = String::from_utf8(rows).expect("serde_json writes UTF-8");
        Ok(encoded)
    }

    fn changes(&self, keys: &[String]) -> Result<Vec<Change>, serde_json::Error> {
        let changed = keys.iter().filter_map(|key| Some((key, self.rows.get(key)?)));
        changed
            .filter(|(_, row)| row.is_changed())
            .map(|(key, row)| {
                let before = match &row.stored {
                    Stored::Row(row) => Some(serde_json::to_value(row)?),
                    Stored::Same | Stored::Nothing => None,
                };
                let after = row.now.as_ref().map(serde_json::to_value).transpose()?;
                Ok(Change { key: key.clone(), before, after })
            })
            .collect()
    }

    fn settle(&mut self, bytes_max: usize) {
        for key in std::mem::take(&mut self.changed) {
            if let Some(row) = self.rows.get_mut(&key) {
                row.stored = Stored::Same;
            }
        }
        if self.bytes() > bytes_max {
            self.former = std::mem::take(&mut self.rows);
            self.found = Found::default();
            for (key, row) in &self.former {
                self.found.moved::<V>(key, None, row.now.as_ref());
            }
        }
    }

    fn forget(&mut self, key: &str) {
        for row in [self.rows.remove(key), self.former.remove(key)].into_iter().flatten() {
            self.found.moved::<V>(key, row.now.as_ref(), None);
        }
        self.changed.retain(|changed| changed != key);
    }
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
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    use super::*;
    use crate::{Event, Kind, Timestamp, account, view::Definition};

    /// Whoever has registered, by region; the name "flood" moves everybody of the region `eu` to `us`.
    struct Regions;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
        assert_eq!(fold.encode(&keys, false).unwrap().count, 1);
        fold.settle(usize::MAX);
        assert!(fold.knows(&keys[0]) && fold.changed().is_empty());
        fold.apply_to(&keys[0], &registered(1, "eu"));
        assert_eq!(fold.encode(&keys, true).unwrap(), Encoded { rows: "[]".into(), ..Encoded::default() });
        fold.apply_to(&keys[0], &event(1, "account.closed", "{}"));
        assert_eq!(fold.encode(&keys, true).unwrap().gone, keys);
    }

    #[test]
    fn new_rows_are_lines_and_changed_ones_are_not() {
        let mut fold = folded(&[]);
        let stored = Uuid::from_u128(1).to_string();
        fold.load(stored.clone(), Some(&format!(r#"{{"id":"{stored}","region":"us","moves":7}}"#))).unwrap();
        fold.apply_to(&stored, &registered(1, "eu"));
        fold.apply_to(&Uuid::from_u128(2).to_string(), &registered(2, "eu"));
        let encoded = fold.encode(&fold.changed(), true).unwrap();
        assert_eq!((encoded.new.count, encoded.count), (1, 1));
        assert_eq!(encoded.new.text, format!("{}\teu\t0\n", Uuid::from_u128(2)));
    }

    #[test]
    fn rows_are_let_go_of_in_two_steps_so_that_those_on_their_way_to_the_database_are_known() {
        let mut fold = folded(&[registered(1, "eu"), registered(2, "eu")]);
        let keys = fold.changed();
        fold.settle(1);
        assert!(fold.knows(&keys[0]) && fold.knows(&keys[1]));
        // One is touched again, and stays.
        fold.apply_to(&keys[0], &event(1, "account.renamed", r#"{"name":"flood"}"#));
        assert_eq!(moves(fold.as_ref()), [1], "folded on from what it was");
        fold.settle(1);
        assert!(fold.knows(&keys[0]) && !fold.knows(&keys[1]));
        assert_eq!(fold.touched(&Touch::Rows { column: "region", value: "us".into() }), [keys[0].clone()]);
        assert!(fold.touched(&Touch::Rows { column: "region", value: "eu".into() }).is_empty());
    }
}
