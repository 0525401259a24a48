//! A dictionary in the files of a cache.
//!
//! Knows how places become the engine's keys; all else the engine knows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::cache::MmapCache;
use crate::engine::{Options, Version, Writer};
use crate::error::{self, Error};

use crate::dict::error::{DictError, Policy, Result};
use crate::dict::etag::ETag;
use crate::dict::format::{Format, Value};
use crate::dict::key::DictKey;
use crate::dict::prefix::SEPARATOR;
use crate::dict::semantics::OnStore;
use crate::dict::store::{Lookup, Place, Scope, Session, Store, Stored, first_item};
use crate::dict::view::View;

/// A dictionary in the files of an [`MmapCache`], shared by threads and processes.
///
/// Conditional operations and transformations are atomic among all of them: they hold the writer
/// lock. What survives a kill or a power loss is what the cache's [`Durability`](crate::Durability)
/// says. Reads take no lock and verify checksums; a damaged entry is an error that
/// [`is_corruption`](DictError::is_corruption), and can be replaced and deleted.
///
/// An item is an entry of the cache under its format's name and its segments, joined by `/`:
/// `json/users/42`. Entries that are no items may be there beside them.
///
/// # Cost
///
/// Beside coding, an item costs what its entry costs: a read no lock and no copy but of the encoded
/// value, a write the lock. Listing, [`len`](crate::dict::Dict::len), [`clear`](crate::dict::Dict::clear) and
/// [`subdicts`](crate::dict::Dict::subdicts) read the keys of the whole cache, whatever view they are
/// asked of, and of the values only those that are handed out.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::dict::{Condition, Dict, ETagState, MmapDict, Retrieve, Write};
///
/// let settings = MmapDict::<String>::open(dir.path().join("settings"))?;
/// settings.insert(["editor", "theme"], "dark".to_owned())?;
///
/// // Whoever changed it first wins.
/// let seen = settings.get_with_etag(["editor", "theme"])?.expect("it was put");
/// let write = Write::Value("light".to_owned());
/// let result =
///     settings.set_if(["editor", "theme"], write, Condition::Same, seen.etag, Retrieve::Always)?;
/// assert!(result.satisfied);
///
/// let editor = settings.subdict("editor")?;
/// assert_eq!(editor.get("theme")?.as_deref(), Some("light"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MmapDict<V>(View<Engine, V>);

impl<V> Clone for MmapDict<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Value> MmapDict<V> {
    /// Opens the cache at a path, or creates it, as a dictionary of JSON values.
    ///
    /// # Errors
    ///
    /// [`DictError::Backend`] with what [`MmapCache::open`] says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Format::Json, &Options::new())
    }

    /// Opens a cache as the options say, as a dictionary of values in a format.
    ///
    /// With [`append_only`](Options::append_only) the policy is written into the file, and holds for
    /// everybody who opens it, as a dictionary or a cache, as long as the file stands.
    ///
    /// # Errors
    ///
    /// [`DictError::Backend`] with what [`Options::open`] says.
    pub fn open_with(path: impl AsRef<Path>, format: Format, options: &Options) -> Result<Self> {
        let cache = options.open(path).map_err(failed("open the cache", None))?;
        Ok(Self::on(Arc::new(cache), format))
    }

    /// A dictionary on a cache that is open already.
    pub fn on(cache: Arc<MmapCache>, format: Format) -> Self {
        Self(View::new(Engine(cache), format))
    }

    /// The dictionary of another format, or type, at the same place of the same cache. Formats are
    /// namespaces of their own: no item of one is seen in the other.
    pub fn with_format<W: Value>(&self, format: Format) -> MmapDict<W> {
        MmapDict(self.0.of_format(format))
    }

    pub(super) fn of_view(view: View<Engine, V>) -> Self {
        Self(view)
    }

    /// The cache: for its statistics, [`flush`](MmapCache::flush), [`compact`](MmapCache::compact)
    /// and the like.
    pub fn cache(&self) -> &MmapCache {
        &self.0.store.0
    }
}

impl<V: Value> OnStore<V> for MmapDict<V> {
    type Store = Engine;

    fn view(&self) -> &View<Engine, V> {
        &self.0
    }

    fn with_view(&self, view: View<Engine, V>) -> Self {
        Self(view)
    }
}

/// A cache that dictionaries share.
#[derive(Clone)]
pub struct Engine(Arc<MmapCache>);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The writer lock.
#[derive(Debug)]
pub struct Locked<'a> {
    cache: &'a MmapCache,
    writer: Writer<'a>,
}

/// What is said where the engine fails at an item, or at none.
fn failed(operation: &'static str, at: Option<&Place>) -> impl FnOnce(Error) -> DictError {
    let key = at.map(|at| at.key.clone());
    move |source| match source {
        Error::AppendOnly { .. } => DictError::MutationPolicy {
            policy: Policy::AppendOnly,
            key,
        },
        source => DictError::Backend {
            operation,
            key,
            source,
        },
    }
}

/// The engine's key of an item.
fn engine_key(at: &Place) -> Vec<u8> {
    let (format, key) = (at.format.name(), at.key.as_str());
    [format.as_bytes(), b"/", key.as_bytes()].concat()
}

impl Scope {
    /// What the engine's keys of this scope begin with.
    fn engine_prefix(&self) -> String {
        let mut prefix = format!("{}{SEPARATOR}", self.format);
        if !self.within.is_empty() {
            prefix.push_str(self.within.as_str());
            prefix.push(SEPARATOR);
        }
        prefix
    }
}

/// The key of an entry of a scope, relative to it; none for entries elsewhere.
fn relative(prefix: &str, engine_key: &[u8]) -> Option<Result<DictKey>> {
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

impl Stored for Vec<u8> {
    fn decode<V: Value>(&self, at: &Place) -> Result<V> {
        at.decode(self)
    }
}

impl Lookup for Engine {
    type Stored = Vec<u8>;

    fn etag(&self, at: &Place) -> Result<Option<ETag>> {
        let version = self.0.version(&engine_key(at));
        Ok(version
            .map_err(failed("look the item up", Some(at)))?
            .map(ETag::new))
    }

    fn load(&self, at: &Place) -> Result<Option<(ETag, Vec<u8>)>> {
        let entry = self.0.entry(&engine_key(at));
        let entry = entry.map_err(failed("read the item", Some(at)))?;
        Ok(entry.map(|entry| (ETag::new(entry.version()), entry.into_value())))
    }
}

impl Lookup for Locked<'_> {
    type Stored = Vec<u8>;

    fn etag(&self, at: &Place) -> Result<Option<ETag>> {
        let version = self.cache.version(&engine_key(at));
        Ok(version
            .map_err(failed("look the item up", Some(at)))?
            .map(ETag::new))
    }

    fn load(&self, at: &Place) -> Result<Option<(ETag, Vec<u8>)>> {
        let entry = self.writer.entry(&engine_key(at));
        let entry = entry.map_err(failed("read the item", Some(at)))?;
        Ok(entry.map(|entry| (ETag::new(entry.version()), entry.into_value())))
    }
}

impl Session for Locked<'_> {
    fn put(&mut self, at: &Place, encoded: &[u8]) -> Result<ETag> {
        let version = self.writer.put(&engine_key(at), encoded);
        version
            .map(ETag::new)
            .map_err(failed("put the item", Some(at)))
    }

    fn delete(&mut self, at: &Place) -> Result<bool> {
        let deleted = self.writer.delete(&engine_key(at));
        deleted.map_err(failed("delete the item", Some(at)))
    }

    fn finish(self) -> Result<()> {
        self.writer
            .commit()
            .map_err(failed("make the change durable", None))
    }
}

impl Store for Engine {
    type Session<'a> = Locked<'a>;

    const TRANSFORMS_IN_SESSION: bool = true;
    const NAME: &'static str = "MmapDict";

    fn is_append_only(&self) -> bool {
        self.0.is_append_only()
    }

    fn path(&self) -> Option<&Path> {
        Some(self.0.path())
    }

    fn begin(&self) -> Result<Locked<'_>> {
        let writer = self
            .0
            .writer()
            .map_err(failed("take the writer lock", None))?;
        Ok(Locked {
            cache: &self.0,
            writer,
        })
    }

    fn put(&self, at: &Place, encoded: &[u8]) -> Result<Option<ETag>> {
        let key = engine_key(at);
        let version: error::Result<Option<Version>> = if self.is_append_only() {
            self.0.insert_if_absent(&key, encoded)
        } else {
            self.0.put(&key, encoded).map(Some)
        };
        let version = version.map_err(failed("put the item", Some(at)))?;
        Ok(version.map(ETag::new))
    }

    fn keys(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag)>> {
        self.listing(scope, |key, etag, _| Ok(Some((key, etag))))
    }

    /// Counts what begins as its keys do, as fast as the keys can be listed.
    fn len(&self, scope: &Scope) -> Result<u64> {
        let prefix = scope.engine_prefix();
        let mut keys = self.0.keys().map_err(failed("list the keys", None))?;
        let mut len = 0;
        while let Some(key) = keys.next_borrowed() {
            let (key, _) = key.map_err(failed("list the keys", None))?;
            len += u64::from(key.starts_with(prefix.as_bytes()));
        }
        Ok(len)
    }

    fn entries(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag, Vec<u8>)>> {
        self.listing(scope, |key, _, read| {
            Ok(read(&key)?.map(|(etag, stored)| (key, etag, stored)))
        })
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
                    Ok((key, _)) => drop(session.delete(&scope.place(&key)?)?),
                    // What cannot be read, or is no item, does not keep the others.
                    Err(error) => cleared = cleared.and(Err(error)),
                }
            }
            session.finish()?;
        }
    }

    /// A few draws first: where many entries were deleted, a listing passes all their places before
    /// it meets one that is left. Emptying a dictionary of 50,000 items one by one takes 0.08 s so,
    /// and 9.4 s without.
    fn any(&self, scope: &Scope) -> Result<Option<DictKey>> {
        for _ in 0..ANY_TRIES {
            match self.draw(scope)? {
                Drawn::Item(key) => return Ok(Some(key)),
                Drawn::Other(_) => {}
                Drawn::Nothing => return Ok(None),
            }
        }
        first_item(self.keys(scope.clone()))
    }

    fn random(&self, scope: &Scope) -> Result<Option<DictKey>> {
        for _ in 0..RANDOM_TRIES {
            match self.draw(scope)? {
                Drawn::Item(key) => return Ok(Some(key)),
                Drawn::Other(Some(error)) => return Err(error),
                Drawn::Other(None) => {}
                Drawn::Nothing => return Ok(None),
            }
        }
        crate::dict::sample::of(self.keys(scope.clone()))
    }
}

/// What an entry of the cache that was drawn is to a scope.
enum Drawn {
    Item(DictKey),
    /// No item of it; with an error where it should be one.
    Other(Option<DictError>),
    /// There is no entry.
    Nothing,
}

/// Reads the value of the item that was listed last; none where it was deleted since.
pub(super) type ReadListed<'r> = &'r mut dyn FnMut(&DictKey) -> Result<Option<(ETag, Vec<u8>)>>;

impl Engine {
    /// Lists the items of a scope. `each` makes of a key, its tag and its value, if it reads it, what
    /// is listed, or nothing.
    ///
    /// The value is read from the slot that was listed, not looked up by its key: a damaged index may
    /// list a key that a lookup does not find, and it must not be passed over as if it were deleted.
    pub(super) fn listing<T>(
        &self,
        scope: Scope,
        mut each: impl FnMut(DictKey, ETag, ReadListed<'_>) -> Result<Option<T>>,
    ) -> impl Iterator<Item = Result<T>> {
        let prefix = scope.engine_prefix();
        let (mut keys, error) = begun(self.0.keys());
        let items = std::iter::from_fn(move || {
            let keys = keys.as_mut()?;
            loop {
                let (key, version) = match keys.next_borrowed()? {
                    Ok(item) => item,
                    Err(error) => return Some(Err(failed("list the keys", None)(error))),
                };
                let key = match relative(&prefix, key) {
                    Some(Ok(key)) => key,
                    Some(Err(error)) => return Some(Err(error)),
                    None => continue,
                };
                let mut read = |key: &DictKey| {
                    let mut value = Vec::new();
                    match keys.value_of_last(&mut value) {
                        Ok(version) => Ok(version.map(|version| (ETag::new(version), value))),
                        Err(error) => {
                            let at = scope.place(key)?;
                            Err(failed("read the item", Some(&at))(error))
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

    /// Draws an entry of the whole cache.
    fn draw(&self, scope: &Scope) -> Result<Drawn> {
        let drawn = self.0.random_key();
        let Some(key) = drawn.map_err(failed("choose a key", None))? else {
            return Ok(Drawn::Nothing);
        };
        Ok(match relative(&scope.engine_prefix(), &key) {
            Some(Ok(key)) => Drawn::Item(key),
            Some(Err(error)) => Drawn::Other(Some(error)),
            None => Drawn::Other(None),
        })
    }
}

/// Items that one hold of the lock deletes at most: others get their turn in between.
const CLEARED_AT_ONCE: usize = 256;

/// Keys of the whole cache that are drawn in the hope that one is of the scope. Where a scope has a
/// hundredth of the entries, two of three times one is; after that the keys are listed.
const RANDOM_TRIES: usize = 100;

/// As many where any key will do, which a listing finds as well.
const ANY_TRIES: usize = 8;

/// A listing that began, or the error why it did not.
fn begun<T, I>(listing: error::Result<T>) -> (Option<T>, Option<Result<I>>) {
    match listing {
        Ok(listing) => (Some(listing), None),
        Err(error) => (None, Some(Err(failed("list the keys", None)(error)))),
    }
}
