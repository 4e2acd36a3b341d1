//! A key of each view, read from it, so that the examples of rows work.

use std::collections::BTreeMap;

use serde_json::Value;
use service_kit::auth::Caller;

use crate::{
    catalog::Catalog,
    parameters::Parameters,
    plan::Plan,
    reader::{Answer, Reader},
};

/// By the view's name; a view without rows, or that cannot be read, has none.
pub type Keys = BTreeMap<String, String>;

/// The keys of what the caller may read.
pub async fn some_keys(reader: &Reader, catalog: &Catalog, caller: &Caller) -> Keys {
    let mut keys = Keys::new();
    for view in catalog.views.values() {
        let first = Parameters::of(&[("fields", &view.key_column().name), ("limit", "1")]);
        let first = reader.answer(&view.name, None, |served| Plan::list(served, caller, &first)).await;
        let Ok(Answer { entry, .. }) = first else { continue };
        let list: Option<Value> = serde_json::from_slice(entry.body.as_deref().unwrap_or_default()).ok();
        let key = list.as_ref().and_then(|list| list["items"][0].get(&view.key_column().name));
        keys.extend(key.map(|key| (view.name.to_string(), as_path(key))));
    }
    keys
}

fn as_path(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}
