//! The state store's files: an embedded key-value store (fjall) on local disk. Nothing is fsynced: what is
//! lost or damaged is folded again from the log.

use std::{
    fs::{self, File},
    io::ErrorKind,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use domain::{Claim, Kind, application};
use event_log::Checkpoint;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    changes::{Address, Changes, Folded, KeyedOutcome},
    store::StoreError,
};

/// Raised when keys, or values other than states, are written in another way.
const FORMAT: u32 = 1;
/// Blocks that were read and are kept in memory.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// What was written gathers in memory up to here before it becomes a sorted file; a few may wait for that.
const WRITE_BUFFER_BYTES: u64 = 8 * 1024 * 1024;
/// Threads that sort and merge files. Of two, fjall's first would ask for work without a pause while the
/// second merges.
const WORKER_THREADS: usize = 1;
/// From here on a batch is written as sorted files.
const INGEST_ENTRIES_MIN: usize = 30_000;
/// All journals together, which is also what is read again on opening. The least that fjall allows.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) struct Disk {
    database: Database,
    keys: Keyspace,
    /// Held while the store is open: two processes in one folder would destroy it.
    _lock: File,
}

/// Up to where the store has folded the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub position: u64,
    pub frame_sequence: u64,
    pub frame_id: Option<Uuid>,
    /// The time of the last event, in microseconds since 1970.
    pub time: i64,
}

/// What the store says of itself, written with every batch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    format: u32,
    /// Names and versions of the aggregates' states.
    states: String,
    progress: Progress,
}

impl From<Progress> for Checkpoint {
    fn from(progress: Progress) -> Self {
        let Progress { position, frame_sequence, frame_id, .. } = progress;
        Self { position, frame_sequence, frame_id }
    }
}

impl Disk {
    /// Opens the store in `folder`, and says up to where it has folded the log. A store that is damaged or of
    /// another version is thrown away.
    pub fn open(folder: &Path) -> Result<(Self, Progress), StoreError> {
        let lock = lock(folder)?;
        let database = database(folder);
        let opening = || open(&database).and_then(|(database, keys)| Ok((progress(&keys)?, database, keys)));
        // fjall panics on some of the damage that a file can have.
        let opened = catch_unwind(opening).unwrap_or(Err(StoreError::damaged("opening it panicked")));
        let reason = match opened {
            Ok((Ok(progress), database, keys)) => {
                return Ok((Self { database, keys, _lock: lock }, progress));
            }
            Ok((Err(unfit), ..)) => unfit,
            Err(error) => error.to_string(),
        };
        tracing::warn!(folder = %folder.display(), reason, "the state store is not usable; folding the log again");
        remove(folder)?;
        let (database, keys) = open(&database)?;
        Ok((Self { database, keys, _lock: lock }, Progress::default()))
    }

    pub fn aggregate(&self, address: Address) -> Result<Option<Folded>, StoreError> {
        let Some(value) = self.keys.get(aggregate_key(address))? else { return Ok(None) };
        let (revision, state) = value.split_first_chunk().ok_or(StoreError::damaged("a state"))?;
        let state = address.0.decode_state(state).map_err(StoreError::damaged)?;
        Ok(Some(Folded { state, revision: u64::from_be_bytes(*revision) }))
    }

    pub fn holder(&self, claim: &Claim) -> Result<Option<Address>, StoreError> {
        let Some(value) = self.keys.get(claim_key(claim))? else { return Ok(None) };
        let (kind, id) = value.split_last_chunk().ok_or(StoreError::damaged("a claim"))?;
        let kind = std::str::from_utf8(kind).ok().and_then(Kind::from_name);
        Ok(Some((kind.ok_or(StoreError::damaged("a claim"))?, Uuid::from_bytes(*id))))
    }

    pub fn outcome(&self, address: Address, key: &str) -> Result<Option<KeyedOutcome>, StoreError> {
        let value = self.keys.get(outcome_key(address, key))?;
        value.map(|value| serde_json::from_slice(&value).map_err(StoreError::damaged)).transpose()
    }

    /// Writes the changes and how far they go: all of it or, after a crash, nothing.
    pub fn write(&self, changes: &Changes, progress: Progress) -> Result<(), StoreError> {
        let entries = entries(changes, progress);
        if entries.len() >= INGEST_ENTRIES_MIN { self.ingest(entries) } else { self.insert(entries) }
    }

    fn insert(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        // Reaches the operating system, so that it survives the death of the process.
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in entries {
            match value {
                Some(value) => batch.insert(&self.keys, key, value),
                None => batch.remove(&self.keys, key),
            }
        }
        Ok(batch.commit()?)
    }

    /// Writes sorted files, without the detour over a journal: less than half the work for many entries.
    fn ingest(&self, mut entries: Vec<Entry>) -> Result<(), StoreError> {
        entries.sort_unstable();
        let mut ingestion = self.keys.start_ingestion()?;
        for (key, value) in entries {
            match value {
                Some(value) => ingestion.write(key, value)?,
                None => ingestion.write_tombstone(key)?,
            }
        }
        Ok(ingestion.finish()?)
    }
}

/// A key and its value; none if it is to be forgotten.
type Entry = (Vec<u8>, Option<Vec<u8>>);

fn entries(changes: &Changes, progress: Progress) -> Vec<Entry> {
    let name = |(kind, id): Address| [kind.name().as_bytes(), id.as_bytes()].concat();
    let json = |outcome| serde_json::to_vec(outcome).expect("an outcome is made of text and numbers");
    let aggregates = changes.aggregates.iter().map(|(address, folded)| {
        let value = [&folded.revision.to_be_bytes()[..], &folded.state.encode()].concat();
        (aggregate_key(*address), Some(value))
    });
    let claims = changes.claims.iter().map(|(claim, holder)| (claim_key(claim), holder.map(name)));
    let outcomes = changes.outcomes.iter();
    let outcomes =
        outcomes.map(|((address, key), outcome)| (outcome_key(*address, key), Some(json(outcome))));
    let mut entries = Vec::with_capacity(changes.len() + 1);
    entries.extend(aggregates.chain(claims).chain(outcomes));
    entries.push((META.to_vec(), Some(meta(progress))));
    entries
}

/// Throws the store in `folder` away. It must not be open.
pub(super) fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(database(folder)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::Folder { folder: folder.to_owned(), error })
        }
        _ => Ok(()),
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("database")
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let failed = |error| StoreError::Folder { folder: folder.to_owned(), error };
    fs::create_dir_all(folder).map_err(failed)?;
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { folder: folder.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn open(folder: &Path) -> Result<(Database, Keyspace), StoreError> {
    if folder.join("version").exists() && !has_journal(folder) {
        // fjall would go on without, number its entries anew, and hide them behind the older ones.
        return Err(StoreError::damaged("its journal is missing"));
    }
    let database = Database::builder(folder)
        .cache_size(CACHE_BYTES)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(WORKER_THREADS)
        .open()?;
    let keys = database
        .keyspace("state", || KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER_BYTES))?;
    if keys.get(META)?.is_none() && keys.is_empty()? {
        keys.insert(META, meta(Progress::default()))?;
        database.persist(PersistMode::Buffer)?;
    }
    Ok((database, keys))
}

fn has_journal(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| file.path()).any(|path| path.extension().is_some_and(|extension| extension == "jnl"))
}

/// How far the store has folded the log, or why it is not fit for that.
fn progress(keys: &Keyspace) -> Result<Result<Progress, String>, StoreError> {
    let Some(value) = keys.get(META)? else { return Ok(Err("it does not say what it is".into())) };
    let Ok(Meta { format, states, progress }) = serde_json::from_slice(&value) else {
        return Ok(Err("it says something unreadable of itself".into()));
    };
    let expected = application::state_fingerprint();
    if (format, &states) != (FORMAT, &expected) {
        return Ok(Err(format!(
            "it holds format {format} of the states {states}, but this version keeps format {FORMAT} of {expected}"
        )));
    }
    Ok(Ok(progress))
}

fn meta(progress: Progress) -> Vec<u8> {
    let meta = Meta { format: FORMAT, states: application::state_fingerprint(), progress };
    serde_json::to_vec(&meta).expect("it is made of text and numbers")
}

// A key begins with a letter that says what it is of. No name holds a zero byte, and an id has 16.

const META: &[u8] = b"m";

fn aggregate_key((kind, id): Address) -> Vec<u8> {
    [b"a", kind.name().as_bytes(), b"\0", id.as_bytes()].concat()
}

fn claim_key(claim: &Claim) -> Vec<u8> {
    [b"c", claim.taken.code.as_bytes(), b"\0", claim.value.as_bytes()].concat()
}

fn outcome_key((kind, id): Address, key: &str) -> Vec<u8> {
    [b"k", kind.name().as_bytes(), b"\0", id.as_bytes(), key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ADDRESS: Address = (Kind::Account, Uuid::from_u128(1));
    const PROGRESS: Progress =
        Progress { position: 7, frame_sequence: 3, frame_id: Some(Uuid::from_u128(2)), time: 5 };

    fn write(disk: &Disk) {
        let mut changes = Changes::default();
        let folded = Folded { state: ADDRESS.0.initial(), revision: PROGRESS.position };
        changes.aggregates.insert(ADDRESS, Arc::new(folded));
        disk.write(&changes, PROGRESS).unwrap();
    }

    fn said_of_itself(format: u32, states: String) -> Option<Vec<u8>> {
        Some(serde_json::to_vec(&Meta { format, states, progress: PROGRESS }).unwrap())
    }

    #[test]
    fn a_store_of_this_version_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, progress) = Disk::open(folder.path()).unwrap();
        assert_eq!(progress, Progress::default());
        write(&disk);
        drop(disk);
        let (disk, progress) = Disk::open(folder.path()).unwrap();
        assert_eq!((progress, disk.aggregate(ADDRESS).unwrap().unwrap().revision), (PROGRESS, 7));
    }

    #[test]
    fn a_store_of_another_version_is_thrown_away() {
        let states = application::state_fingerprint();
        for says in [
            said_of_itself(FORMAT + 1, states.clone()),
            said_of_itself(FORMAT, format!("{states},parcel:1")),
            said_of_itself(FORMAT, String::new()),
            Some(b"{}".to_vec()),
            None,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (disk, _) = Disk::open(folder.path()).unwrap();
            write(&disk);
            disk.insert(vec![(META.to_vec(), says.clone())]).unwrap();
            drop(disk);
            let (disk, progress) = Disk::open(folder.path()).unwrap();
            assert_eq!(progress, Progress::default(), "{says:?}");
            assert!(disk.aggregate(ADDRESS).unwrap().is_none(), "{says:?}");
            drop(disk);
            // What takes its place is of this version.
            let (disk, _) = Disk::open(folder.path()).unwrap();
            write(&disk);
            drop(disk);
            assert_eq!(Disk::open(folder.path()).unwrap().1, PROGRESS, "{says:?}");
        }
    }

    #[test]
    fn a_store_with_any_damage_to_its_journal_is_opened() {
        let sound = tempfile::tempdir().unwrap();
        write(&Disk::open(sound.path()).unwrap().0);
        let journal = fs::read(database(sound.path()).join("0.jnl")).unwrap();
        let written = journal.iter().rposition(|byte| *byte != 0).unwrap();
        for damaged in 0..=written {
            let folder = tempfile::tempdir().unwrap();
            drop(Disk::open(folder.path()).unwrap());
            let mut journal = journal[..=written].to_vec();
            journal[damaged] ^= 0x5a;
            fs::write(database(folder.path()).join("0.jnl"), journal).unwrap();
            let (disk, progress) = Disk::open(folder.path()).unwrap();
            // It may know more than it says, which folding notices or makes good; but never less. (fjall's
            // checksum of a batch does not cover its number, so that an older batch may pass for the newer.)
            let revision = disk.aggregate(ADDRESS).unwrap().map_or(0, |folded| folded.revision);
            assert!([0, 7].contains(&progress.position), "byte {damaged}: {progress:?}");
            assert!(revision >= progress.position, "byte {damaged}: {progress:?}, {revision}");
        }
    }

    #[test]
    fn a_store_is_open_once() {
        let folder = tempfile::tempdir().unwrap();
        let _disk = Disk::open(folder.path()).unwrap();
        assert!(matches!(Disk::open(folder.path()), Err(StoreError::InUse { .. })));
    }
}
