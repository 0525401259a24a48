//! A dictionary in files with one in memory in front of it.
//!
//! Knows which of the two is asked for what, and when what is held in memory is still true.

use std::path::Path;
use std::sync::Arc;

use crate::dict::error::Result;
use crate::dict::etag::ETag;
use crate::dict::format::{Format, Value};
use crate::dict::key::DictKey;
use crate::dict::local::{Held, LocalOptions, Memory};
use crate::dict::mmap::{Engine, Locked, MmapDict};
use crate::dict::segments::Segments;
use crate::dict::semantics::OnStore;
use crate::dict::store::{Lookup, Place, Scope, Session, Store};
use crate::dict::view::View;

/// An [`MmapDict`] that keeps what it has read decoded in memory, as a
/// [`LocalDict`](crate::dict::LocalDict) does, so that values which are read again need no decoding.
///
/// Never stale: each read asks the files for the item's tag, which costs one lookup without its
/// value, and what is held in memory counts only if it has that tag. Everything else goes to the
/// files, with all that they promise, and other processes need not know of it.
///
/// It pays where decoding takes longer than a second lookup: [`get_shared`](Self::get_shared), some
/// 0.25 µs whatever the value, from four short texts in JSON on, and [`get`](crate::dict::Dict::get), which
/// clones, from sixteen. Smaller values are read faster from the files alone.
///
/// A forked child has the files with all that they promise after a [fork](crate::MmapCache), and what
/// was held in memory at the fork; where that was lost, as [`LocalDict`](crate::dict::LocalDict) says, it
/// reads from the files each time.
///
/// Memory grows with the items that were read until [`forget`](Self::forget). What is deleted or
/// replaced through the pair is let go of; of what others delete or replace it learns when it is
/// asked for. For values under keys of one's own, bounded by count or bytes, there is
/// [`DecodeCache`](crate::DecodeCache).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use mmapcache::dict::{CachedDict, Dict, MmapDict};
///
/// let files = MmapDict::<Vec<u32>>::open(dir.path().join("primes"))?;
/// let primes = CachedDict::new(files.clone());
/// files.insert("small", vec![2, 3, 5])?;
///
/// let first = primes.get_shared("small")?.expect("it was put");
/// let again = primes.get_shared("small")?.expect("it was put");
/// assert!(Arc::ptr_eq(&first, &again), "decoded once");
///
/// files.insert("small", vec![2, 3, 5, 7])?;
/// assert_eq!(primes.get("small")?.expect("it was put").len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CachedDict<V>(View<Pair, V>);

impl<V> Clone for CachedDict<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Value> CachedDict<V> {
    /// The same items as another dictionary's, from the same place on.
    pub fn new(files: MmapDict<V>) -> Self {
        let front = Memory::new(LocalOptions::new().prune_interval(None));
        let behind = files.view();
        let pair = Pair {
            front,
            engine: behind.store.clone(),
        };
        Self(behind.on(pair))
    }

    /// The dictionary of another format, or type, at the same place, with the same memory in front.
    pub fn with_format<W: Value>(&self, format: Format) -> CachedDict<W> {
        CachedDict(self.0.of_format(format))
    }

    /// The same items without the memory in front.
    pub fn files(&self) -> MmapDict<V> {
        MmapDict::of_view(self.0.on(self.0.store.engine.clone()))
    }

    /// An item's value without a copy of its own: all who ask get the same, until the item is
    /// written again.
    ///
    /// # Errors
    ///
    /// As [`Dict::get`](crate::dict::Dict::get).
    pub fn get_shared(&self, key: impl Segments) -> Result<Option<Arc<V>>> {
        let at = self.0.place(key)?;
        let held = self.0.store.load(&at)?;
        held.map(|(_, held)| held.shared(&at)).transpose()
    }

    /// Lets go of all that is held in memory, for all clones and views.
    pub fn forget(&self) {
        self.0.store.front.forget_all();
    }

    #[cfg(test)]
    pub(super) fn front(&self) -> &Memory {
        &self.0.store.front
    }

    /// How many values are held in memory, by all clones and views.
    pub fn held(&self) -> u64 {
        self.0.store.front.count()
    }
}

impl<V: Value> OnStore<V> for CachedDict<V> {
    type Store = Pair;

    fn view(&self) -> &View<Pair, V> {
        &self.0
    }

    fn with_view(&self, view: View<Pair, V>) -> Self {
        Self(view)
    }
}

/// A cache, and what was read of it.
#[derive(Clone, Debug)]
pub struct Pair {
    front: Memory,
    engine: Engine,
}

/// The writer lock of the cache.
#[derive(Debug)]
pub struct Both<'a> {
    pair: &'a Pair,
    locked: Locked<'a>,
}

impl Pair {
    /// What is held of an item, or would be: of the write with this tag, or a later one.
    fn held(
        &self,
        at: &Place,
        etag: Option<ETag>,
        read: impl FnOnce() -> Result<Option<(ETag, Vec<u8>)>>,
    ) -> Result<Option<(ETag, Arc<Held>)>> {
        // A child that lost the memory in a fork reads from the files each time.
        let known = self.front.load(at).unwrap_or_default();
        if let (Some(etag), Some((held, value))) = (etag, known)
            && etag == held
        {
            return Ok(Some((etag, value)));
        }
        let read = if etag.is_some() { read()? } else { None };
        Ok(match read {
            Some((etag, encoded)) => Some((etag, self.front.hold(at, etag, &encoded))),
            None => {
                self.front.forget(at);
                None
            }
        })
    }
}

impl Lookup for Pair {
    type Stored = Arc<Held>;

    fn etag(&self, at: &Place) -> Result<Option<ETag>> {
        self.engine.etag(at)
    }

    fn load(&self, at: &Place) -> Result<Option<(ETag, Arc<Held>)>> {
        self.held(at, self.engine.etag(at)?, || self.engine.load(at))
    }
}

impl Lookup for Both<'_> {
    type Stored = Arc<Held>;

    fn etag(&self, at: &Place) -> Result<Option<ETag>> {
        self.locked.etag(at)
    }

    fn load(&self, at: &Place) -> Result<Option<(ETag, Arc<Held>)>> {
        let etag = self.locked.etag(at)?;
        self.pair.held(at, etag, || self.locked.load(at))
    }
}

impl Session for Both<'_> {
    fn put(&mut self, at: &Place, encoded: &[u8]) -> Result<ETag> {
        let put = self.locked.put(at, encoded);
        self.pair.front.forget(at);
        put
    }

    fn delete(&mut self, at: &Place) -> Result<bool> {
        let deleted = self.locked.delete(at);
        self.pair.front.forget(at);
        deleted
    }

    fn finish(self) -> Result<()> {
        self.locked.finish()
    }
}

impl Store for Pair {
    type Session<'a> = Both<'a>;

    const TRANSFORMS_IN_SESSION: bool = true;
    const NAME: &'static str = "CachedDict";

    fn is_append_only(&self) -> bool {
        self.engine.is_append_only()
    }

    fn path(&self) -> Option<&Path> {
        self.engine.path()
    }

    fn begin(&self) -> Result<Both<'_>> {
        let locked = self.engine.begin()?;
        Ok(Both { pair: self, locked })
    }

    fn put(&self, at: &Place, encoded: &[u8]) -> Result<Option<ETag>> {
        let put = self.engine.put(at, encoded);
        self.front.forget(at);
        put
    }

    fn keys(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag)>> {
        self.engine.keys(scope)
    }

    fn len(&self, scope: &Scope) -> Result<u64> {
        self.engine.len(scope)
    }

    fn entries(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag, Arc<Held>)>> {
        let place = scope.clone();
        self.engine.listing(scope, move |key, etag, read| {
            let at = place.place(&key)?;
            let held = self.held(&at, Some(etag), || read(&key))?;
            Ok(held.map(|(etag, held)| (key, etag, held)))
        })
    }

    fn clear(&self, scope: &Scope) -> Result<()> {
        let cleared = self.engine.clear(scope);
        // What was lost in a fork is held no more.
        let _ = self.front.clear(scope);
        cleared
    }

    fn any(&self, scope: &Scope) -> Result<Option<DictKey>> {
        self.engine.any(scope)
    }

    fn random(&self, scope: &Scope) -> Result<Option<DictKey>> {
        self.engine.random(scope)
    }
}
