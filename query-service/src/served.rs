//! A view as it is served: what the catalog says of it, and what is known of its changes. It lasts as long as the
//! catalog's description does, so nothing that was kept under another outlives it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    catalog::{Catalog, View},
    coherence::{Coherence, Tags},
};

/// Unlike that of any other view that this process has served.
pub type ServedId = u32;

#[derive(Debug)]
pub struct Served {
    pub id: ServedId,
    pub view: Arc<View>,
    pub tags: Tags,
    pub coherence: Coherence,
}

/// By the view's name.
pub type ServedViews = BTreeMap<Arc<str>, Arc<Served>>;

impl Served {
    fn new(view: Arc<View>) -> Self {
        static NEXT_ID: AtomicU32 = AtomicU32::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, tags: Tags::of(&view), coherence: Coherence::new(), view }
    }
}

/// The views of a catalog that was just read; those that are as before stay what they are.
pub fn served(catalog: &Catalog, before: &ServedViews) -> ServedViews {
    let serve = |view: &Arc<View>| match before.get(&view.name) {
        Some(served) if served.view == *view => served.clone(),
        _ => Arc::new(Served::new(view.clone())),
    };
    catalog.views.iter().map(|(name, view)| (name.clone(), serve(view))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::orders;

    fn catalog(build: i32) -> Catalog {
        let view = View { build, ..orders() };
        Catalog { views: BTreeMap::from([(view.name.clone(), Arc::new(view))]) }
    }

    #[test]
    fn a_view_is_served_anew_only_if_its_description_changes() {
        let first = served(&catalog(1), &BTreeMap::new());
        let same = served(&catalog(1), &first);
        let switched = served(&catalog(2), &same);
        let id = |views: &ServedViews| views["orders"].id;
        assert!(id(&first) == id(&same) && id(&same) != id(&switched));
    }
}
