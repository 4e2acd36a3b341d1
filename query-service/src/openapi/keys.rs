//! A key of each view, read from it, so that the examples of rows work.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{catalog::Catalog, parameters::Parameters, reader::Reader};

/// By the view's name; a view without rows, or that cannot be read, has none.
pub type Keys = BTreeMap<String, String>;

pub async fn some_keys(reader: &Reader, catalog: &Catalog) -> Keys {
    let mut keys = Keys::new();
    for view in catalog.views.values() {
        let first = Parameters::of(&[("fields", &view.key_column().name), ("limit", "1")]);
        let Ok(answer) = reader.list(&view.name, &first, None).await else { continue };
        let row: Option<Map<String, Value>> = serde_json::from_str(&answer.items).ok();
        let key = row.and_then(|row| row.into_iter().next());
        keys.extend(key.map(|(_, key)| (view.name.to_string(), as_path(&key))));
    }
    keys
}

fn as_path(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}
