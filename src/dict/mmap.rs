//! [`MmapDict`]: dictionaries in the files of a cache.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::engine::{Entry, Options, Version, Writer};
use crate::error::{self, Error, ErrorKind};
use crate::mmap_cache::MmapCache;

use crate::codec::Format;
use crate::dict::conditional::ETag;
use crate::dict::dictionary::Dict;
use crate::dict::error::{DictError, Result};
use crate::dict::item_key::{ItemKey, Scope};
use crate::dict::key::DictKey;
use crate::dict::sample::random_key_of;
use crate::dict::store::{Backend, Listing, Lookup, Session, first_item};
use crate::dict::stored::StoredValue;
use crate::dict::value::Value;

/// A dictionary in the files of an [`MmapCache`], shared by threads and processes.
///
/// Conditional operations and updates are atomic among all of them: they hold the writer lock. The
/// cache's [`Durability`](crate::Durability) says what survives a kill or a power loss. Reads take
/// no lock and verify checksums. Reading a corrupted entry returns an error for which
/// [`is_corruption`](DictError::is_corruption) is true; the item can be replaced and deleted.
///
/// An item is an entry of the cache; its key is the name of the format and the parts of the item's
/// key, joined by `/`: `json/users/42`. The cache may have other entries as well.
///
/// # Cost
///
/// Besides encoding and decoding, an item costs what its entry costs: a read takes no lock and
/// copies the encoded value once, a write takes the writer lock. Listing, [`len`](Dict::len),
/// [`clear`](Dict::clear) and [`subdicts`](Dict::subdicts) read the keys of the whole cache, also in
/// a sub-dictionary, and only those values that they return.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::Update;
/// use mmapcache::dict::{Condition, MmapDict, Retrieve};
///
/// let settings = MmapDict::<String>::open(dir.path().join("settings"))?;
/// settings.insert(["editor", "theme"], "dark".to_owned())?;
///
/// // Only if no other process has changed it since it was read.
/// let (_, seen) = settings.get_with_etag(["editor", "theme"])?.expect("it was stored");
/// let update = Update::Put("light".to_owned());
/// let outcome =
///     settings.set_if(["editor", "theme"], update, Condition::Same, seen, Retrieve::Always)?;
/// assert!(outcome.is_satisfied());
///
/// let editor = settings.subdict("editor")?;
/// assert_eq!(editor.get("theme")?.as_deref(), Some("light"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type MmapDict<V> = Dict<V, Mmap>;

/// Dictionaries in files; see [`MmapDict`].
impl<V: Value> MmapDict<V> {
    /// Opens the cache at a path, or creates it, as a dictionary of JSON values.
    ///
    /// # Errors
    ///
    /// Returns [`DictError::Backend`] with the error of [`MmapCache::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Format::Json, &Options::new())
    }

    /// Opens a cache with options, as a dictionary of values in a format.
    ///
    /// [`append_only`](Options::append_only) is stored in the file when the cache is created, and
    /// holds for every process that opens it, as a dictionary or as a cache.
    ///
    /// # Errors
    ///
    /// Returns [`DictError::Backend`] with the error of [`Options::open`].
    pub fn open_with(path: impl AsRef<Path>, format: Format, options: &Options) -> Result<Self> {
        let cache = options.open(path).map_err(failed("open the cache", None))?;
        Ok(Self::on(Arc::new(cache), format))
    }

    /// Creates a dictionary on a cache that is already open. Reads nothing, and takes no lock.
    pub fn on(cache: Arc<MmapCache>, format: Format) -> Self {
        Self::on_whole(Mmap(cache), format)
    }

    /// Returns the cache: for its statistics, [`flush`](MmapCache::flush),
    /// [`compact`](MmapCache::compact) and other maintenance.
    pub fn cache(&self) -> &MmapCache {
        &self.store().0
    }
}

impl<V: Value> From<MmapDict<V>> for Dict<V> {
    fn from(dict: MmapDict<V>) -> Self {
        dict.on_store(Arc::new(dict.store().clone()))
    }
}

/// The storage of an [`MmapDict`]: a cache, which its clones share.
#[derive(Clone)]
pub struct Mmap(Arc<MmapCache>);

impl fmt::Debug for Mmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The writer lock of the cache.
#[derive(Debug)]
pub(super) struct MmapSession<'a> {
    cache: &'a MmapCache,
    writer: Writer<'a>,
}

impl MmapSession<'_> {
    pub(super) fn commit(self) -> Result<()> {
        let committed = self.writer.commit();
        committed.map_err(failed("make the change durable", None))
    }
}

/// Converts an error of the engine. `key` is the item that the operation is about, if it is one.
fn failed<'k>(
    operation: &'static str,
    key: impl Into<Option<&'k ItemKey>>,
) -> impl FnOnce(Error) -> DictError {
    let key = key.into();
    move |source| {
        let key = key.map(ItemKey::to_dict_key);
        if matches!(source.kind(), ErrorKind::AppendOnly) {
            return DictError::AppendOnly { key };
        }
        DictError::Backend {
            operation,
            key,
            source,
        }
    }
}

/// Converts the result of a look-up of a version.
fn etag_of(key: &ItemKey, version: error::Result<Option<Version>>) -> Result<Option<ETag>> {
    let version = version.map_err(failed("look the item up", key))?;
    Ok(version.map(ETag::new))
}

/// Converts the result of reading an entry.
fn loaded(
    key: &ItemKey,
    entry: error::Result<Option<Entry>>,
) -> Result<Option<(ETag, StoredValue)>> {
    let entry = entry.map_err(failed("read the item", key))?;
    Ok(entry.map(|entry| {
        let etag = ETag::new(entry.version());
        (etag, StoredValue::Encoded(entry.into_value()))
    }))
}

impl Lookup for Mmap {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        etag_of(key, self.0.version(key.as_bytes()))
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        loaded(key, self.0.entry(key.as_bytes()))
    }
}

impl Lookup for MmapSession<'_> {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        etag_of(key, self.cache.version(key.as_bytes()))
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        loaded(key, self.writer.entry(key.as_bytes()))
    }
}

impl Session for MmapSession<'_> {
    fn put(&mut self, key: &ItemKey, encoded: &[u8]) -> Result<ETag> {
        let version = self.writer.put(key.as_bytes(), encoded);
        version.map(ETag::new).map_err(failed("put the item", key))
    }

    fn delete(&mut self, key: &ItemKey) -> Result<bool> {
        let deleted = self.writer.delete(key.as_bytes());
        deleted.map_err(failed("delete the item", key))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.commit()
    }
}

impl Backend for Mmap {
    fn kind(&self) -> &'static str {
        "MmapDict"
    }

    fn is_append_only(&self) -> bool {
        self.0.is_append_only()
    }

    fn path(&self) -> Option<&Path> {
        Some(self.0.path())
    }

    fn begin(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self.lock()?))
    }

    fn put(&self, key: &ItemKey, encoded: &[u8]) -> Result<Option<ETag>> {
        let version = if self.is_append_only() {
            self.0.insert_if_absent(key.as_bytes(), encoded)
        } else {
            self.0.put(key.as_bytes(), encoded).map(Some)
        };
        let version = version.map_err(failed("put the item", key))?;
        Ok(version.map(ETag::new))
    }

    fn keys(&self, scope: Scope) -> Listing<'_, (DictKey, ETag)> {
        Box::new(self.list(scope, |key, etag, _| Ok(Some((key, etag)))))
    }

    fn entries(&self, scope: Scope) -> Listing<'_, (DictKey, ETag, StoredValue)> {
        Box::new(self.list(scope, |key, _, read| {
            Ok(read(&key)?.map(|(etag, bytes)| (key, etag, StoredValue::Encoded(bytes))))
        }))
    }

    /// Counts the entries whose keys begin as those of the scope. Does not parse keys, so it is as
    /// fast as listing them.
    fn len(&self, scope: &Scope) -> Result<u64> {
        let prefix = scope.item_prefix();
        let mut keys = self.0.keys().map_err(failed("list the keys", None))?;
        let mut len = 0;
        while let Some(key) = keys.next_borrowed() {
            let (key, _) = key.map_err(failed("list the keys", None))?;
            len += u64::from(key.starts_with(prefix.as_bytes()));
        }
        Ok(len)
    }

    fn clear(&self, scope: &Scope) -> Result<()> {
        let mut keys = self.keys(scope.clone());
        let mut cleared = Ok(());
        loop {
            let batch: Vec<_> = keys.by_ref().take(CLEARED_AT_ONCE).collect();
            if batch.is_empty() {
                return cleared;
            }
            let mut session = self.begin()?;
            for item in batch {
                match item {
                    Ok((key, _)) => drop(session.delete(&scope.item_key(&key)?)?),
                    // An entry that cannot be read, or is not an item, does not keep the others from
                    // being deleted.
                    Err(error) => cleared = cleared.and(Err(error)),
                }
            }
            session.finish()?;
        }
    }

    /// Tries a few random entries first: after many deletions, a listing reads many free positions
    /// before it finds an entry. Emptying a dictionary of 50,000 items one by one takes 0.08 s with
    /// this and 9.4 s without.
    fn any_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        for _ in 0..ANY_KEY_TRIES {
            match self.sample(scope)? {
                Sampled::Item(key) => return Ok(Some(key)),
                Sampled::Other(_) => {}
                Sampled::Nothing => return Ok(None),
            }
        }
        first_item(self.keys(scope.clone()))
    }

    fn random_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        for _ in 0..RANDOM_KEY_TRIES {
            match self.sample(scope)? {
                Sampled::Item(key) => return Ok(Some(key)),
                Sampled::Other(Some(error)) => return Err(error),
                Sampled::Other(None) => {}
                Sampled::Nothing => return Ok(None),
            }
        }
        random_key_of(self.keys(scope.clone()))
    }
}

/// A random entry of the cache, as seen from a scope.
enum Sampled {
    Item(DictKey),
    /// Not an item of the scope. With an error if its key begins as those of the scope.
    Other(Option<DictError>),
    /// The cache has no entry.
    Nothing,
}

/// Reads the value of the item that was listed last; `None` if the item was deleted since.
pub(super) type ReadListed<'r> = &'r mut dyn FnMut(&DictKey) -> Result<Option<(ETag, Vec<u8>)>>;

impl Mmap {
    pub(super) fn lock(&self) -> Result<MmapSession<'_>> {
        let writer = self
            .0
            .writer()
            .map_err(failed("take the writer lock", None));
        Ok(MmapSession {
            cache: &self.0,
            writer: writer?,
        })
    }

    /// Lists the items of a scope. `each` converts a key, its ETag and, if it reads it, its value.
    ///
    /// The value is read from the slot that was listed, and not looked up by its key: a corrupted
    /// index may list a key that a look-up does not find, which must not look like a deletion.
    pub(super) fn list<T>(
        &self,
        scope: Scope,
        mut each: impl FnMut(DictKey, ETag, ReadListed<'_>) -> Result<Option<T>>,
    ) -> impl Iterator<Item = Result<T>> {
        let prefix = scope.item_prefix();
        let (mut keys, error) = match self.0.keys() {
            Ok(keys) => (Some(keys), None),
            Err(error) => (None, Some(Err(failed("list the keys", None)(error)))),
        };
        let items = std::iter::from_fn(move || {
            let keys = keys.as_mut()?;
            loop {
                let (key, version) = match keys.next_borrowed()? {
                    Ok(item) => item,
                    Err(error) => return Some(Err(failed("list the keys", None)(error))),
                };
                let key = match relative_key(&prefix, key) {
                    Some(Ok(key)) => key,
                    Some(Err(error)) => return Some(Err(error)),
                    None => continue,
                };
                let mut read = |key: &DictKey| {
                    let mut value = Vec::new();
                    match keys.value_of_last(&mut value) {
                        Ok(version) => Ok(version.map(|version| (ETag::new(version), value))),
                        Err(error) => {
                            let key = scope.item_key(key)?;
                            Err(failed("read the item", &key)(error))
                        }
                    }
                };
                if let Some(item) = each(key, ETag::new(version), &mut read).transpose() {
                    return Some(item);
                }
            }
        });
        error.into_iter().chain(items)
    }

    /// Returns a random entry of the whole cache.
    fn sample(&self, scope: &Scope) -> Result<Sampled> {
        let sampled = self.0.random_key();
        let Some(key) = sampled.map_err(failed("choose a key", None))? else {
            return Ok(Sampled::Nothing);
        };
        Ok(match relative_key(&scope.item_prefix(), &key) {
            Some(Ok(key)) => Sampled::Item(key),
            Some(Err(error)) => Sampled::Other(Some(error)),
            None => Sampled::Other(None),
        })
    }
}

/// Returns the key of an entry relative to a scope; `None` if the entry is outside of it.
fn relative_key(prefix: &str, engine_key: &[u8]) -> Option<Result<DictKey>> {
    let rest = engine_key.strip_prefix(prefix.as_bytes())?;
    let key = match std::str::from_utf8(rest) {
        Ok(text) => DictKey::parse(text).map_err(Some),
        Err(_) => Err(None),
    };
    Some(key.map_err(|source| DictError::ForeignKey {
        key: String::from_utf8_lossy(engine_key).into_owned(),
        source,
    }))
}

/// Items that `clear` deletes each time it takes the lock, so that other writers get it in between.
const CLEARED_AT_ONCE: usize = 256;

/// Random entries of the whole cache that `random_key` tries before it lists the keys. In a scope
/// with a hundredth of the entries, two of three calls find an item by them.
const RANDOM_KEY_TRIES: usize = 100;

/// The same for `any_key`, which needs no uniform choice and so lists earlier.
const ANY_KEY_TRIES: usize = 8;
