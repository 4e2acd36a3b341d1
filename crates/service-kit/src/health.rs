//! Health by named checks: a part of a service says that it is well or why it is not, and
//! `/health/ready` answers 200 only while every part is well.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A cloneable handle to the state of all checks of one service.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
}

impl Health {
    /// Every named check starts as failing with `starting`, so that a service is not ready too soon.
    pub fn starting(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let health = Self::default();
        for name in names {
            health.fail(&name.into(), "starting");
        }
        health
    }

    pub fn pass(&self, name: &str) {
        self.lock().insert(name.to_owned(), Ok(()));
    }

    pub fn fail(&self, name: &str, reason: impl Into<String>) {
        self.lock().insert(name.to_owned(), Err(reason.into()));
    }

    /// The checks that fail, as `name: reason`; empty means ready.
    pub fn failing(&self) -> Vec<String> {
        let checks = self.lock();
        checks
            .iter()
            .filter_map(|(name, state)| state.as_ref().err().map(|reason| format!("{name}: {reason}")))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Result<(), String>>> {
        // A panic while the map was held cannot leave it half-changed: each use is one insert or one read.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
