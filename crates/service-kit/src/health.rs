//! Health by named checks: a part of a service says that it is well or why it is not, and
//! `/health/ready` answers 200 only while every part is well, and the service is not about to leave.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A cloneable handle to the state of all checks of one service.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
    is_leaving: Arc<AtomicBool>,
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

    /// From now on the service is not ready, whatever its parts say: it serves, and asks for nothing new.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// The checks that fail, as `name: reason`; empty means ready.
    pub fn failing(&self) -> Vec<String> {
        let leaving = self.is_leaving().then(|| "leaving: the service is about to end".to_owned());
        let checks = self.lock();
        let failing =
            checks.iter().filter_map(|(name, state)| Some(format!("{name}: {}", state.as_ref().err()?)));
        leaving.into_iter().chain(failing).collect()
    }

    /// Every check by its name, with `ok` or the reason why it fails.
    pub fn checks(&self) -> BTreeMap<String, String> {
        let checks = self.lock();
        let said = |state: &Result<(), String>| state.as_ref().err().map_or("ok", |reason| reason).to_owned();
        checks.iter().map(|(name, state)| (name.clone(), said(state))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Result<(), String>>> {
        // A panic while the map was held cannot leave it half-changed: each use is one insert or one read.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_leaves_is_not_ready_however_well_its_parts_are() {
        let health = Health::starting(["views"]);
        health.pass("views");
        assert!(health.failing().is_empty());
        assert_eq!(health.checks()["views"], "ok");
        health.leave();
        health.pass("views");
        assert_eq!(health.failing(), ["leaving: the service is about to end"]);
    }
}
