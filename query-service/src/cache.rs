//! What was read, kept as the bytes that are served. Whether an entry is still true is not decided here but by the
//! view's [coherence](crate::coherence); there is no time to live.

use std::sync::Arc;

use quick_cache::sync::Cache as QuickCache;
use sha2::{Digest, Sha256};

use crate::{
    catalog::{ColumnId, Kind, Owner},
    coherence::Read,
    served::ServedId,
};

/// What an entry takes beside its key and body: the cache's own slots, which are more than its entries, two allocations
/// and their counts; and what the allocator holds back while entries come and go, without which the process would
/// grow beyond the bound (`headwater-bench reads --parts memory`). An entry that stays takes a good 200 bytes less.
const OVERHEAD_BYTES: usize = 352;
/// What the cache is prepared for; it grows with what is put in.
const ENTRY_BYTES_EXPECTED: u64 = 256;

/// A bounded cache of rows and lists.
#[derive(Clone)]
pub struct Cache(Option<Arc<QuickCache<Key, Arc<Entry>, Bytes>>>);

impl Cache {
    /// Holds up to so many bytes; none: nothing is ever kept.
    pub fn new(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / ENTRY_BYTES_EXPECTED).unwrap_or(usize::MAX);
        Self((bytes_max > 0).then(|| Arc::new(QuickCache::with_weighter(items, bytes_max, Bytes))))
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.0.as_ref()?.get(key)
    }

    /// Whether there is a cache at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn put(&self, key: Key, entry: Arc<Entry>) {
        if let Some(cache) = &self.0 {
            cache.insert(key, entry);
        }
    }

    /// Entries, and the bytes that they are taken to occupy.
    pub fn size(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |cache| (cache.len() as u64, cache.weight()))
    }
}

/// What was asked: the view in one shape of its table, and a query of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Box<[u8]>);

const OF_ROW: u8 = 0;
const OF_LIST: u8 = 1;
const OF_OWNED_ROW: u8 = 2;

impl Key {
    /// What was read for `owner` alone is another answer than anybody else's.
    pub fn of_row(
        served: ServedId,
        fields: &[ColumnId],
        kind: Option<Kind>,
        key: &str,
        owner: Option<&Owner>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(10 + 2 * fields.len() + key.len());
        bytes.extend_from_slice(&served.to_be_bytes());
        bytes.push(if owner.is_some() { OF_OWNED_ROW } else { OF_ROW });
        bytes.extend_from_slice(&(fields.len() as u16).to_be_bytes());
        // Postgres has at most 1,600 columns in a table.
        fields.iter().for_each(|&field| bytes.extend_from_slice(&(field as u16).to_be_bytes()));
        match kind.filter(|kind| *kind == Kind::Uuid).and_then(|_| uuid::Uuid::try_parse(key).ok()) {
            Some(id) => bytes.extend_from_slice(id.as_bytes()),
            None => bytes.extend_from_slice(key.as_bytes()),
        }
        if let Some(owner) = owner {
            bytes.extend_from_slice(owner.value.as_bytes());
            // Tells where the key ends.
            bytes.extend_from_slice(&(owner.value.len() as u64).to_be_bytes());
        }
        Self(bytes.into())
    }

    /// `identity` tells the query from any other of the view.
    pub fn of_list(served: ServedId, identity: &str) -> Self {
        let mut bytes = Vec::with_capacity(5 + identity.len());
        bytes.extend_from_slice(&served.to_be_bytes());
        bytes.push(OF_LIST);
        bytes.extend_from_slice(identity.as_bytes());
        Self(bytes.into())
    }
}

/// Something that was read.
#[derive(Debug)]
pub struct Entry {
    /// The timeline in which it can be told whether this is true.
    pub timeline: u64,
    pub read: Read,
    pub etag: ETag,
    /// Where the next page of a list begins, if there is one.
    pub next_cursor: Option<Box<str>>,
    /// JSON; `None` if there is no such row.
    pub body: Option<Box<[u8]>>,
}

/// Names the content of an answer, alike on all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(u64);

impl ETag {
    pub fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        Self(u64::from_be_bytes(std::array::from_fn(|i| digest[i])))
    }
}

impl ETag {
    /// Without the quotes that it has in a header.
    pub fn digits(self) -> String {
        format!("{:016x}", self.0)
    }

    /// From its digits.
    pub fn parse(digits: &str) -> Option<Self> {
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(Self)
    }
}

impl std::fmt::Display for ETag {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "\"{:016x}\"", self.0)
    }
}

#[derive(Clone)]
struct Bytes;

impl quick_cache::Weighter<Key, Arc<Entry>> for Bytes {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        let body = entry.body.as_deref().map_or(0, <[u8]>::len);
        let cursor = entry.next_cursor.as_deref().map_or(0, str::len);
        (key.0.len() + body + cursor + size_of::<Entry>() + OVERHEAD_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

    fn entry(body: &str) -> Arc<Entry> {
        let (etag, body) = (ETag::of(body.as_bytes()), Some(body.as_bytes().into()));
        let read = Read { term: 1, position: 1 };
        Arc::new(Entry { timeline: 1, read, etag, next_cursor: None, body })
    }

    #[test]
    fn whatever_makes_an_answer_another_makes_another_key() {
        let key = |served, fields: &[ColumnId], key| Key::of_row(served, fields, Some(Kind::Text), key, None);
        let owned = |key, value: &str| {
            let owner = Owner { column: 1, value: value.into() };
            Key::of_row(1, &[0], Some(Kind::Text), key, Some(&owner))
        };
        let keys = [
            key(1, &[0, 1], "a"),
            key(2, &[0, 1], "a"),
            key(1, &[1, 0], "a"),
            key(1, &[0], "a"),
            key(1, &[0, 1], "b"),
            owned("a", ""),
            owned("a", "b"),
            owned("ab", ""),
            owned("", "ab"),
            Key::of_list(1, "a"),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != one), "{one:?}");
        }
    }

    #[test]
    fn the_bound_is_kept_whatever_is_put_in() {
        let cache = Cache::new(1_000_000);
        for number in 0..20_000 {
            let id = uuid::Uuid::from_u128(number).to_string();
            cache.put(Key::of_row(1, &[0], Some(Kind::Uuid), &id, None), entry(&"x".repeat(100)));
        }
        let (entries, bytes) = cache.size();
        assert!(bytes <= 1_000_000 && entries > 1_000, "{entries} entries of {bytes} bytes");
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = Cache::new(0);
        let key = Key::of_row(1, &[0], Some(Kind::Uuid), ID, None);
        cache.put(key.clone(), entry("{}"));
        assert!(cache.get(&key).is_none());
    }

    #[test]
    fn an_etag_names_the_content() {
        assert_eq!(ETag::of(b"{}").to_string(), ETag::of(b"{}").to_string());
        assert_ne!(ETag::of(b"{}"), ETag::of(b"{ }"));
        assert_eq!(ETag::of(b"").to_string(), "\"e3b0c44298fc1c14\"");
    }
}
