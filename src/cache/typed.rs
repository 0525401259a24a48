//! [`TypedCache`]: a cache of values that serde can write and read.
//!
//! Encodes and decodes; the cache does the rest. May call `codec`, `cache`, and what that may call.

use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::compute::Obtain;
use crate::cache::{
    Cache, CacheEntry, ComputeError, ComputeOptions, InsertOptions, Obtained, calls,
};
use crate::codec::Format;
use crate::engine::{Update, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Relaxed;
use crate::sync::count::Count;

/// A [`Cache`] of values of one type that serde can write and read.
///
/// A value is stored as the bytes of its [`Format`], and one byte more that names the format. Both
/// formats store the names of fields, so fields can be reordered, and fields with a default can be
/// added.
///
/// # Values of other types
///
/// A value that does not decode as `V` is a miss: it was stored by another version of the program, in
/// another format, or by the methods of [`Cache`]. It stays until it is replaced, removed or expired, and
/// [`undecoded`](Self::undecoded) counts such lookups. Serde reads a value of another type if it fits, a
/// number as an amount in another unit for example: then put a version of your own into the keys, as
/// [`call_key`](Self::call_key) does.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::time::Duration;
/// use mmapcache::{InsertOptions, TypedCache};
///
/// let cache = TypedCache::<Vec<u32>>::open(dir.path().join("primes"))?;
/// let hour = InsertOptions::new().ttl(Duration::from_secs(3_600));
/// cache.insert_with("below ten", &vec![2, 3, 5, 7], &hour)?;
/// assert_eq!(cache.get("below ten")?, Some(vec![2, 3, 5, 7]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedCache<V> {
    cache: Arc<Cache>,
    format: Format,
    undecoded: Count,
    values: PhantomData<fn() -> V>,
}

impl<V> fmt::Debug for TypedCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCache")
            .field("cache", &self.cache)
            .field("format", &self.format)
            .field("type", &type_name::<V>())
            .finish_non_exhaustive()
    }
}

impl<V> TypedCache<V> {
    /// Opens the cache at `path` for values in JSON; creates it if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::on(Arc::new(Cache::open(path)?), Format::Json))
    }

    /// Returns a typed cache on a cache that is open already. Reads nothing, and takes no lock. Several
    /// types can share a cache if their keys differ.
    pub fn on(cache: Arc<Cache>, format: Format) -> Self {
        Self {
            cache,
            format,
            undecoded: Count::new(0),
            values: PhantomData,
        }
    }

    /// Returns the cache, for what does not concern values: [`touch`](Cache::touch),
    /// [`insert_absent`](Cache::insert_absent), [`sweep`](Cache::sweep) and others.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns how many lookups by this handle found a fresh value that does not decode.
    pub fn undecoded(&self) -> u64 {
        self.undecoded.load(Relaxed)
    }

    /// Removes the entry of a key, as [`Cache::remove`]. Returns whether it had a fresh one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::remove`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.cache.remove(key)
    }

    /// Returns a key for the result of a function: its name, a version, and its arguments in MessagePack.
    /// Keys are equal if all three are. Raise the version when the function changes, so that results of
    /// the earlier one are misses.
    ///
    /// Arguments that serde writes in no fixed order, a `HashMap` for example, have several keys: sort
    /// them first.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] if the arguments cannot be written. A key of more than 65,535 bytes
    /// is refused when it is used.
    pub fn call_key(
        &self,
        function: &str,
        version: u32,
        arguments: &impl Serialize,
    ) -> Result<Vec<u8>> {
        let mut key = format!("{function}/{version}/").into_bytes();
        key.extend(self.encode(Format::MessagePack, arguments)?);
        // A name may have bytes that look like arguments.
        key.extend((function.len() as u64).to_le_bytes());
        Ok(key)
    }

    fn encode<T: Serialize>(&self, format: Format, value: &T) -> Result<Vec<u8>> {
        format.encode(value).map_err(|source| {
            let kind = ErrorKind::Encode {
                type_name: type_name::<T>(),
                format: format.name(),
                source,
            };
            kind.at(self.cache.path())
        })
    }
}

impl<V: Serialize> TypedCache<V> {
    /// Stores a value without a deadline, as [`Cache::insert`]. Returns the new version.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] if the format cannot express the value, and the errors of
    /// [`Cache::insert`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: &V) -> Result<Version> {
        self.cache.insert(key, self.stored(value)?)
    }

    /// Stores a value with a deadline, as [`Cache::insert_with`]. Returns the new version.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert).
    pub fn insert_with(
        &self,
        key: impl AsRef<[u8]>,
        value: &V,
        options: &InsertOptions,
    ) -> Result<Version> {
        self.cache.insert_with(key, self.stored(value)?, options)
    }

    /// Stores a value if the key has no fresh entry, as [`Cache::add`]: one that does not decode counts
    /// as fresh. Returns the new version, or `None` if it has one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert).
    pub fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: &V,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        self.cache.add(key, self.stored(value)?, options)
    }

    /// Stores a value if the key's entry has the version `seen`, as [`Cache::insert_if`].
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] if the format cannot express the value, and the errors of
    /// [`Cache::insert_if`].
    pub fn insert_if(
        &self,
        key: impl AsRef<[u8]>,
        value: &V,
        seen: Version,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        self.cache
            .insert_if(key, self.stored(value)?, seen, options)
    }

    /// Returns the bytes that are stored for a value: for [`CacheWriter`](crate::CacheWriter), and for
    /// programs that encode in one thread and store in another, by [`Cache::insert_with`].
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] if the format cannot express the value.
    pub fn stored(&self, value: &V) -> Result<Vec<u8>> {
        let mut stored = self.encode(self.format, value)?;
        stored.push(mark(self.format));
        Ok(stored)
    }
}

impl<V: DeserializeOwned> TypedCache<V> {
    /// Returns the value of a key, or `None` if there is no fresh value that decodes as `V`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<V>> {
        let stored = self.cache.get(key)?;
        Ok(stored.and_then(|stored| self.decoded(&stored)))
    }

    /// Returns the value of a key without using the entry, as [`Cache::peek`]: a value that does not decode
    /// is not counted either.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::peek`].
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<V>> {
        let stored = self.cache.peek(key)?;
        Ok(stored.and_then(|stored| self.decode(&stored)))
    }

    /// Returns the value of a key and lets it live until `ttl` from now, as [`Cache::get_and_renew`]. A
    /// value that does not decode is renewed too.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::get_and_renew`].
    pub fn get_and_renew(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Option<V>> {
        let stored = self.cache.get_and_renew(key, ttl)?;
        Ok(stored.and_then(|stored| self.decoded(&stored)))
    }

    /// Stores a value and returns the one that it replaces, in one step, as [`Cache::swap`]: `None` if
    /// there was no fresh one that decodes as `V`.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] if the format cannot express the value, and the errors of
    /// [`Cache::swap`].
    pub fn swap(
        &self,
        key: impl AsRef<[u8]>,
        value: &V,
        options: &InsertOptions,
    ) -> Result<Option<V>>
    where
        V: Serialize,
    {
        let replaced = self.cache.swap(key, self.stored(value)?, options)?;
        Ok(replaced.and_then(|stored| self.decoded(&stored)))
    }

    /// Decides under the lock what becomes of an entry, as [`Cache::update`]. `decide` gets the entry, and
    /// its value if it is not negative and decodes, as [`entry`](Self::entry) returns them.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] if the format cannot express the value, and the errors of
    /// [`Cache::update`]. The entry is unchanged then.
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<(Option<V>, &CacheEntry)>) -> Update<(V, InsertOptions)>,
    ) -> Result<Option<Version>>
    where
        V: Serialize,
    {
        self.cache.try_update(key.as_ref(), |entry| {
            let seen = entry.map(|entry| (self.value_of(entry), entry));
            Ok(match decide(seen) {
                Update::Put((value, options)) => Update::Put((self.stored(&value)?, options)),
                Update::Delete => Update::Delete,
                Update::Keep => Update::Keep,
            })
        })
    }

    /// Removes the entry of a key and returns its value, as [`Cache::take`]: `None` if there was no fresh
    /// one that decodes as `V`. One that does not decode is removed too.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::take`].
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<V>> {
        let stored = self.cache.take(key)?;
        Ok(stored.and_then(|stored| self.decoded(&stored)))
    }

    /// Returns the value of a key. If there is no fresh one that decodes as `V`, computes it with `f` and
    /// stores it, as [`Cache::get_or_insert_with`]: one computation at a time for a key, over all threads
    /// and processes. A value that does not decode is replaced.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use std::time::Duration;
    /// use mmapcache::{InsertOptions, TypedCache};
    ///
    /// let cache = TypedCache::<Vec<u32>>::open(dir.path().join("primes"))?;
    /// let hour = InsertOptions::new().ttl(Duration::from_secs(3_600));
    /// let primes = cache.get_or_insert_with("below ten", hour, || vec![2, 3, 5, 7])?;
    /// assert_eq!(primes.value, [2, 3, 5, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ComputeError::NotStored`] with the value if the format cannot express it
    /// ([`ErrorKind::Encode`]; an expired value may stand in for it, as for one that cannot be computed),
    /// and the errors of [`Cache::get_or_insert_with`].
    pub fn get_or_insert_with(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        f: impl FnOnce() -> V,
    ) -> std::result::Result<Obtained<V>, ComputeError<Infallible, V>>
    where
        V: Serialize,
    {
        self.get_or_try_insert_with(key, options, || Ok(f()))
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), for a computation that may fail, as
    /// [`Cache::get_or_try_insert_with`].
    ///
    /// # Errors
    ///
    /// Returns [`ComputeError::Failed`] with the error of `f`, and the errors of
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    pub fn get_or_try_insert_with<E>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        f: impl FnOnce() -> std::result::Result<V, E>,
    ) -> std::result::Result<Obtained<V>, ComputeError<E, V>>
    where
        V: Serialize,
    {
        let misread = Count::new(0);
        let f = || self.with_encoding(f().map_err(Failure::Computation)?);
        let read = |stored: &[u8]| self.read(stored, &misread);
        let reply = calls::obtain_read(&self.cache, key.as_ref(), &options.into(), read, f);
        self.end_call(reply, &misread)
    }

    /// As [`get_or_try_insert_with`](Self::get_or_try_insert_with), as a future for any executor, as
    /// [`Cache::get_or_try_insert_async`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get_or_try_insert_with`](Self::get_or_try_insert_with).
    pub async fn get_or_try_insert_async<E, D, F>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        sleep: impl Fn(Duration) -> D,
        f: impl FnOnce() -> F,
    ) -> std::result::Result<Obtained<V>, ComputeError<E, V>>
    where
        V: Serialize,
        D: Future<Output = ()>,
        F: Future<Output = std::result::Result<V, E>>,
    {
        let options = options.into();
        let misread = Count::new(0);
        let f = || async { self.with_encoding(f().await.map_err(Failure::Computation)?) };
        let read = |stored: &[u8]| self.read(stored, &misread);
        let reply =
            calls::obtain_read_async(&self.cache, key.as_ref(), &options, read, sleep, f).await;
        self.end_call(reply, &misread)
    }

    /// Returns a computed value with its encoding.
    fn with_encoding<E>(&self, value: V) -> std::result::Result<(Vec<u8>, V), Failure<V, E>>
    where
        V: Serialize,
    {
        match self.stored(&value) {
            Ok(stored) => Ok((stored, value)),
            Err(error) => Err(Failure::Encoding(value, error)),
        }
    }

    /// Decodes what a computing call found, and notes that it does not decode.
    fn read(&self, stored: &[u8], misread: &Count) -> Option<V> {
        let value = self.decode(stored);
        if value.is_none() {
            misread.fetch_add(1, Relaxed);
        }
        value
    }

    /// Counts a computing call that met a value that does not decode, once, and sorts its errors.
    fn end_call<E>(
        &self,
        reply: Obtain<V, Failure<V, E>>,
        misread: &Count,
    ) -> std::result::Result<Obtained<V>, ComputeError<E, V>> {
        if misread.load(Relaxed) > 0 {
            self.undecoded.fetch_add(1, Relaxed);
        }
        match reply {
            Ok(reply) => Ok(Obtained {
                value: reply.read,
                origin: reply.origin,
            }),
            Err(ComputeError::Failed(Failure::Computation(error))) => {
                Err(ComputeError::Failed(error))
            }
            Err(ComputeError::Failed(Failure::Encoding(value, error))) => {
                Err(ComputeError::NotStored { value, error })
            }
            Err(ComputeError::NotStored { value, error }) => Err(ComputeError::NotStored {
                value: value.read,
                error,
            }),
            Err(ComputeError::Cache(error)) => Err(ComputeError::Cache(error)),
        }
    }

    /// Returns the fresh entry of a key, and its value: no value if the entry is negative or does not
    /// decode. The entry has the deadline and the version; its own value is the stored bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::entry`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<(Option<V>, CacheEntry)>> {
        let found = self.cache.entry(key)?;
        Ok(found.map(|entry| (self.value_of(&entry), entry)))
    }

    /// Returns the value of an entry; none if it is negative or does not decode.
    fn value_of(&self, entry: &CacheEntry) -> Option<V> {
        match entry.is_negative() {
            true => None,
            false => self.decoded(entry.value()),
        }
    }

    fn decode(&self, stored: &[u8]) -> Option<V> {
        match stored.split_last() {
            Some((&last, encoded)) if last == mark(self.format) => self.format.decode(encoded).ok(),
            _ => None,
        }
    }

    /// The same, of a lookup.
    fn decoded(&self, stored: &[u8]) -> Option<V> {
        let decoded = self.decode(stored);
        if decoded.is_none() {
            self.undecoded.fetch_add(1, Relaxed);
        }
        decoded
    }
}

/// Why there is no value to store.
enum Failure<V, E> {
    Computation(E),
    /// The format cannot express it.
    Encoding(V, Error),
}

/// Returns the last byte of a stored value: bytes of one format can be another value in the other.
fn mark(format: Format) -> u8 {
    match format {
        Format::Json => b'j',
        Format::MessagePack => b'm',
    }
}
