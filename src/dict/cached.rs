//! [`CachedDict`]: dictionaries in files that keep decoded values in memory.

use std::path::Path;
use std::sync::Arc;

use crate::dict::conditional::ETag;
use crate::dict::dictionary::Dict;
use crate::dict::error::Result;
use crate::dict::item_key::{ItemKey, Scope};
use crate::dict::key::{DictKey, KeyParts};
use crate::dict::local::{Local, LocalOptions};
use crate::dict::mmap::{Mmap, MmapDict, MmapSession};
use crate::dict::semantics;
use crate::dict::store::{Backend, Listing, Lookup, Session};
use crate::dict::stored::{MemoryValue, StoredValue};
use crate::dict::value::Value;

/// An [`MmapDict`] that keeps the values it has read in memory, decoded, as a
/// [`LocalDict`](crate::dict::LocalDict) does, so that reading them again needs no decoding.
///
/// It never returns a stale value: each read looks up the item's ETag in the files, without the
/// value, and uses the value in memory only if it has that ETag. All other operations go to the
/// files, with the same guarantees; other processes need not use a `CachedDict`.
///
/// It is faster if decoding takes longer than a second look-up:
/// [`get_shared`](Self::get_shared), about 0.25 µs for any value, from four short texts in JSON on,
/// and [`get`](Dict::get), which clones, from sixteen. An `MmapDict` reads smaller values faster.
///
/// After a [fork](crate::MmapCache), a child has the files with the same guarantees, and the values
/// that were in memory at the fork. If those were lost, as
/// [`LocalDict`](crate::dict::LocalDict#after-a-fork) explains, each read goes to the files.
///
/// Memory grows with the items that were read, until [`forget`](Self::forget). A value that is
/// deleted or replaced through this dictionary is dropped at once; one that others delete or replace,
/// when it is next read. For values under keys of any form, bounded by number or bytes, use a
/// [`DecodeCache`](crate::intern::DecodeCache).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use mmapcache::dict::{CachedDict, MmapDict};
///
/// let files = MmapDict::<Vec<u32>>::open(dir.path().join("primes"))?;
/// let primes = CachedDict::new(files.clone());
/// files.insert("small", vec![2, 3, 5])?;
///
/// let first = primes.get_shared("small")?.expect("it was stored");
/// let again = primes.get_shared("small")?.expect("it was stored");
/// assert!(Arc::ptr_eq(&first, &again), "decoded once");
///
/// files.insert("small", vec![2, 3, 5, 7])?;
/// assert_eq!(primes.get("small")?.expect("it was stored").len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type CachedDict<V> = Dict<V, Cached>;

/// Dictionaries in files with decoded values in memory; see [`CachedDict`].
impl<V: Value> CachedDict<V> {
    /// Creates a dictionary of the same items, format and prefix, without values in memory. Reads
    /// nothing, and takes no lock.
    pub fn new(files: MmapDict<V>) -> Self {
        let memory = Local::new(LocalOptions::new().prune_interval(None));
        let store = Cached {
            memory,
            files: files.store().clone(),
        };
        files.on_store(store)
    }

    /// Returns a dictionary of the same items without the values in memory.
    pub fn files(&self) -> MmapDict<V> {
        self.on_store(self.store().files.clone())
    }

    /// Returns an item's value without cloning it: all callers get the same instance, until the item
    /// is written again. Reads and decodes the value if it is not in memory.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get_shared(&self, key: impl KeyParts) -> Result<Option<Arc<V>>> {
        let key = self.item_key(&key)?;
        let value = self.store().load_shared(&key)?;
        let shared = value.map(|(_, value)| value.shared(key.format()));
        shared
            .transpose()
            .map_err(|source| semantics::decode_error::<V>(&key, source))
    }

    /// Drops all values in memory, also those that clones, sub-dictionaries and dictionaries of other
    /// formats have read: they share the memory.
    pub fn forget(&self) {
        self.store().memory.forget_all();
    }

    /// Returns the number of values in memory, including those that clones, sub-dictionaries and
    /// dictionaries of other formats have read.
    pub fn held(&self) -> u64 {
        self.store().memory.count()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> &Local {
        &self.store().memory
    }
}

impl<V: Value> From<CachedDict<V>> for Dict<V> {
    fn from(dict: CachedDict<V>) -> Self {
        dict.on_store(Arc::new(dict.store().clone()))
    }
}

/// The storage of a [`CachedDict`]: a cache and the values that were read from it, which its clones
/// share.
#[derive(Clone, Debug)]
pub struct Cached {
    memory: Local,
    files: Mmap,
}

/// The writer lock of the cache.
#[derive(Debug)]
struct CachedSession<'a> {
    store: &'a Cached,
    files: MmapSession<'a>,
}

impl Cached {
    /// Returns an item's value from memory if its ETag is `etag`, and otherwise from `read`.
    fn value(
        &self,
        key: &ItemKey,
        etag: Option<ETag>,
        read: impl FnOnce() -> Result<Option<(ETag, StoredValue)>>,
    ) -> Result<Option<(ETag, Arc<MemoryValue>)>> {
        // In a child that lost the memory in a fork, each read goes to the files.
        let known = self.memory.value(key).unwrap_or_default();
        if let (Some(etag), Some(known)) = (etag, known)
            && etag == known.etag
        {
            return Ok(Some((etag, known)));
        }
        let read = if etag.is_some() { read()? } else { None };
        Ok(match read {
            Some((etag, StoredValue::Encoded(bytes))) => {
                Some((etag, self.memory.keep(key, etag, &bytes)))
            }
            Some((etag, StoredValue::InMemory(value))) => Some((etag, value)),
            None => {
                self.memory.forget(key);
                None
            }
        })
    }

    fn load_shared(&self, key: &ItemKey) -> Result<Option<(ETag, Arc<MemoryValue>)>> {
        self.value(key, self.files.etag(key)?, || self.files.load(key))
    }
}

fn in_memory((etag, value): (ETag, Arc<MemoryValue>)) -> (ETag, StoredValue) {
    (etag, StoredValue::InMemory(value))
}

impl Lookup for Cached {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        self.files.etag(key)
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        Ok(self.load_shared(key)?.map(in_memory))
    }
}

impl Lookup for CachedSession<'_> {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        self.files.etag(key)
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        let etag = self.files.etag(key)?;
        let value = self.store.value(key, etag, || self.files.load(key))?;
        Ok(value.map(in_memory))
    }
}

impl Session for CachedSession<'_> {
    fn put(&mut self, key: &ItemKey, encoded: &[u8]) -> Result<ETag> {
        let put = self.files.put(key, encoded);
        self.store.memory.forget(key);
        put
    }

    fn delete(&mut self, key: &ItemKey) -> Result<bool> {
        let deleted = self.files.delete(key);
        self.store.memory.forget(key);
        deleted
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.files.commit()
    }
}

impl Backend for Cached {
    fn kind(&self) -> &'static str {
        "CachedDict"
    }

    fn is_append_only(&self) -> bool {
        self.files.is_append_only()
    }

    fn path(&self) -> Option<&Path> {
        self.files.path()
    }

    fn begin(&self) -> Result<Box<dyn Session + '_>> {
        let files = self.files.lock()?;
        Ok(Box::new(CachedSession { store: self, files }))
    }

    fn put(&self, key: &ItemKey, encoded: &[u8]) -> Result<Option<ETag>> {
        let put = self.files.put(key, encoded);
        self.memory.forget(key);
        put
    }

    fn keys(&self, scope: Scope) -> Listing<'_, (DictKey, ETag)> {
        self.files.keys(scope)
    }

    fn entries(&self, scope: Scope) -> Listing<'_, (DictKey, ETag, StoredValue)> {
        let of_listing = scope.clone();
        Box::new(self.files.list(of_listing, move |key, etag, read| {
            let item_key = scope.item_key(&key)?;
            let value = self.value(&item_key, Some(etag), || {
                let read = read(&key)?;
                Ok(read.map(|(etag, bytes)| (etag, StoredValue::Encoded(bytes))))
            })?;
            Ok(value.map(|(etag, value)| (key, etag, StoredValue::InMemory(value))))
        }))
    }

    fn len(&self, scope: &Scope) -> Result<u64> {
        self.files.len(scope)
    }

    fn clear(&self, scope: &Scope) -> Result<()> {
        let cleared = self.files.clear(scope);
        // If the memory was lost in a fork, it has no values.
        let _ = self.memory.clear(scope);
        cleared
    }

    fn any_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        self.files.any_key(scope)
    }

    fn random_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        self.files.random_key(scope)
    }
}
