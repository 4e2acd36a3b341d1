//! A lease chooses one instance of several. It is for liveness only: a holder that died is replaced once its lease
//! has run out. Safety is the business of a fence on what the holder does, so that two who both believe to hold the
//! lease do no harm.

use std::{fmt, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, kv},
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// A holder that is not heard of for this long has lost the lease.
const LEASE_TIME: Duration = Duration::from_secs(2);
/// A holder says this often that it is alive.
const RENEW_INTERVAL: Duration = Duration::from_millis(400);
/// One request about the lease may take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
const KEY: &str = "holder";

/// Names one running instance of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance(Uuid);

impl Instance {
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// The lease cannot be asked for at the moment.
#[derive(Debug, thiserror::Error)]
#[error("the lease is unavailable: {0}")]
pub struct LeaseError(String);

impl LeaseError {
    fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// The bucket that the lease is kept in. It is on disk, though nothing in it is worth keeping: a copy in memory is empty
/// whenever its server starts, so that of three servers two that are well would not always be enough.
pub struct Lease {
    bucket: kv::Store,
    me: Instance,
}

impl Lease {
    /// The lease that is kept in `bucket`, created with copies on so many servers if it has yet to be created.
    pub async fn open(
        client: &Client,
        bucket: String,
        description: &str,
        replicas: usize,
        me: Instance,
    ) -> Result<Self, LeaseError> {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let config = kv::Config {
            bucket,
            description: description.into(),
            max_age: LEASE_TIME,
            num_replicas: replicas,
            ..Default::default()
        };
        let bucket = match jetstream.get_key_value(&config.bucket).await {
            Ok(bucket) => bucket,
            Err(_) => jetstream.create_key_value(config).await.map_err(LeaseError::new)?,
        };
        Ok(Self { bucket, me })
    }

    /// Who holds the lease; nobody, if it has run out or was given back.
    pub async fn holder(&self) -> Result<Option<Instance>, LeaseError> {
        let entry = self.bucket.entry(KEY).await.map_err(LeaseError::new)?;
        let put = entry.filter(|entry| entry.operation == kv::Operation::Put);
        let holder = put.map(|entry| String::from_utf8_lossy(&entry.value).parse().map(Instance));
        holder.transpose().map_err(LeaseError::new)
    }

    /// Takes the lease if nobody holds it, and keeps it until it is given back or lost.
    pub async fn take(&self) -> Result<Option<Held>, LeaseError> {
        let renewed = Instant::now();
        match self.bucket.create(KEY, self.me.to_string().into()).await {
            Ok(revision) => {
                let (lost, released) = (CancellationToken::new(), CancellationToken::new());
                let keeper = Keeper { bucket: self.bucket.clone(), me: self.me, revision, renewed };
                let keeping = tokio::spawn(keeper.keep(lost.clone(), released.clone()));
                Ok(Some(Held { lost, released: released.drop_guard(), keeping }))
            }
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(LeaseError::new(error)),
        }
    }
}

/// The lease, while we hold it. Dropping it gives it back.
pub struct Held {
    lost: CancellationToken,
    released: DropGuard,
    keeping: JoinHandle<()>,
}

impl Held {
    /// Returns when the lease is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives the lease back, so that another instance can take it at once.
    pub async fn release(self) {
        drop(self.released);
        // A panic in there leaves the lease to run out.
        let _ = self.keeping.await;
    }
}

/// Renews the lease.
struct Keeper {
    bucket: kv::Store,
    me: Instance,
    /// Of the last renewal, in the bucket.
    revision: u64,
    renewed: Instant,
}

impl Keeper {
    async fn keep(mut self, lost: CancellationToken, released: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW_INTERVAL) => {}
                () = released.cancelled() => {
                    // What cannot be given back runs out.
                    let _ = self.bucket.delete_expect_revision(KEY, Some(self.revision)).await;
                    return;
                }
            }
            if !self.renew().await {
                lost.cancel();
                return;
            }
        }
    }

    /// Whether we still hold the lease.
    async fn renew(&mut self) -> bool {
        let now = Instant::now();
        match self.bucket.update(KEY, self.me.to_string().into(), self.revision).await {
            Ok(revision) => {
                (self.revision, self.renewed) = (revision, now);
                true
            }
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => self.find_ours().await,
            Err(_) => self.renewed.elapsed() < LEASE_TIME,
        }
    }

    /// A renewal whose answer was lost has moved the revision; the lease may still be ours.
    async fn find_ours(&mut self) -> bool {
        let Ok(Some(entry)) = self.bucket.entry(KEY).await else { return false };
        self.revision = entry.revision;
        entry.operation == kv::Operation::Put && *entry.value == *self.me.to_string().as_bytes()
    }
}
