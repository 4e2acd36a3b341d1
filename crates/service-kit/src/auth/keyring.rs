//! The keys that are trusted now, kept current.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::{sync::Mutex, time::Instant};

use super::{keys::KeySet, source::Source};
use crate::Shutdown;

/// A key that is not known is looked for at most so often, whatever tokens come.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    source: Source,
    held: RwLock<Held>,
    /// That of `held`, for those who need no keys.
    generation: AtomicU64,
    /// When the source was asked last; held while it is asked.
    asked: Mutex<Instant>,
}

/// A key set, and which one it is, counted from the start.
#[derive(Clone)]
pub struct Held {
    pub keys: Arc<KeySet>,
    pub generation: u64,
}

impl Keyring {
    pub async fn fetch(source: Source) -> anyhow::Result<Self> {
        let keys = fetch(&source)
            .await
            .with_context(|| format!("the keys of {source} cannot be had (--auth-jwks)"))?;
        let held = RwLock::new(Held { keys: Arc::new(keys), generation: 0 });
        let (generation, asked) = (AtomicU64::new(0), Mutex::new(Instant::now()));
        Ok(Self(Arc::new(Inner { source, held, generation, asked })))
    }

    pub fn held(&self) -> Held {
        // A panic cannot leave it half-changed: each use is one assignment or one clone.
        self.0.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was verified under another is not known to be so any more.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub async fn refresh_every(self, interval: Duration, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => self.0.refresh(&mut *self.0.asked.lock().await).await,
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Looks for keys that came after those in `seen`, unless that was done a moment ago.
    pub async fn look_again(&self, seen: u64) -> Held {
        let mut asked = self.0.asked.lock().await;
        if self.generation() == seen && asked.elapsed() >= LOOK_AGAIN_AFTER {
            self.0.refresh(&mut asked).await;
        }
        self.held()
    }
}

impl Inner {
    /// If the source cannot be had, the keys stay as they are.
    async fn refresh(&self, asked: &mut Instant) {
        match fetch(&self.source).await {
            Ok(keys) => self.replace(keys),
            Err(error) => tracing::warn!(source = %self.source, "the keys stay as they are: {error:#}"),
        }
        *asked = Instant::now();
    }

    fn replace(&self, keys: KeySet) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if !keys.is_same(&held.keys) {
            tracing::info!(before = ?held.keys.ids(), now = ?keys.ids(), "the keys of tokens have changed");
            *held = Held { keys: Arc::new(keys), generation: held.generation + 1 };
            self.generation.store(held.generation, Ordering::Release);
        }
    }
}

async fn fetch(source: &Source) -> anyhow::Result<KeySet> {
    Ok(KeySet::parse(&source.fetch().await?)?)
}
