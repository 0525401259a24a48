//! The listings of a cache: keys, keys with values, and entries.
//!
//! Each is a cursor and what its items are. May call `cursor`.

use crate::error::Result;

use crate::engine::entry::Entry;
use crate::engine::handle::Handle;
use crate::engine::read::cursor::Cursor;
use crate::engine::version::Version;

/// An entry of a listing, without its value; returned by [`Keys::next_key_info`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The length of the value in bytes.
    pub value_len: u64,
    /// The version of the entry.
    pub version: Version,
}

/// Iterates over the keys of a cache; made by [`MmapCache::keys`](crate::MmapCache::keys).
#[derive(Debug)]
pub struct Keys<'a>(Cursor<'a>);

/// Iterates over the keys and values of a cache; made by [`MmapCache::iter`](crate::MmapCache::iter),
/// and by `for item in &cache`, where an error of starting the listing is the first item.
#[derive(Debug)]
pub struct Iter<'a>(Cursor<'a>);

/// Iterates over the keys and entries of a cache; made by [`MmapCache::entries`](crate::MmapCache::entries).
#[derive(Debug)]
pub struct Entries<'a>(Cursor<'a>);

impl<'a> Keys<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        Cursor::new(handle).map(Self)
    }

    /// Returns the next key, borrowed from a buffer that the next call overwrites, and its version. Does
    /// not allocate, and reads no value.
    ///
    /// A key that fits into its slot costs a read of the slot only; a longer one also costs the beginning
    /// of its record. In the files of [`Labels`](crate::Labels) the version is the label's id plus one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// cache.put(b"old", b"1")?;
    /// let newer = cache.put(b"new", b"2")?;
    ///
    /// let mut keys = cache.keys()?;
    /// let mut newest = None;
    /// while let Some(listed) = keys.next_borrowed() {
    ///     let (key, version) = listed?;
    ///     if newest.as_ref().is_none_or(|(_, seen)| *seen < version) {
    ///         newest = Some((key.to_vec(), version));
    ///     }
    /// }
    /// assert_eq!(newest, Some((b"new".to_vec(), newer)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of the iterator's items; see [`MmapCache::keys`](crate::MmapCache::keys).
    pub fn next_borrowed(&mut self) -> Option<Result<(&[u8], Version)>> {
        let listed = self.next_key_info()?;
        Some(listed.map(|listed| (listed.key, listed.version)))
    }

    /// Returns the next key with its version and the length of its value, which is not read. As
    /// [`next_borrowed`](Self::next_borrowed) otherwise.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`next_borrowed`](Self::next_borrowed).
    pub fn next_key_info(&mut self) -> Option<Result<KeyInfo<'_>>> {
        let stepped = self.0.step(false)?;
        Some(stepped.map(|version| KeyInfo {
            key: &self.0.key,
            value_len: self.0.value_len.into(),
            version,
        }))
    }
}

#[cfg(feature = "dict")]
impl Keys<'_> {
    /// Appends the value of the entry that was listed last to `value`, and returns its version;
    /// `None` if it was deleted since. Reads the same slot again, without a look-up.
    pub(crate) fn value_of_last(&mut self, value: &mut Vec<u8>) -> Result<Option<Version>> {
        self.0.value_of_last(value)
    }
}

impl<'a> Iter<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        Cursor::with_values(handle).map(Self)
    }

    /// Returns an iterator whose first item is the error if the listing cannot start.
    pub(crate) fn new_or_failed(handle: &'a Handle) -> Self {
        Self(Cursor::with_values(handle).unwrap_or_else(|error| Cursor::failed(handle, error)))
    }

    /// Returns the next key and value, borrowed from buffers that the next call overwrites. Does not
    /// allocate.
    ///
    /// # Errors
    ///
    /// Returns the errors of the iterator's items; see [`MmapCache::iter`](crate::MmapCache::iter).
    pub fn next_borrowed(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        let stepped = self.0.step(true)?;
        Some(stepped.map(|_| (self.0.key(), self.0.value())))
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        Cursor::with_values(handle).map(Self)
    }

    /// Lists in the order of the heap, however few entries there are, and remembers at most so many
    /// moved ones of a part. `None` if positions have to be read.
    #[cfg(test)]
    pub(crate) fn in_heap_order(handle: &'a Handle, most_moved: usize) -> Result<Option<Self>> {
        let mut cursor = Cursor::new(handle)?;
        cursor.begin_heap_walk(most_moved)?;
        Ok(cursor.walk.is_some().then_some(Self(cursor)))
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.0.step(false)?;
        Some(stepped.map(|_| self.0.key.clone()))
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.0.step(true)?;
        Some(stepped.map(|_| (self.0.key().to_vec(), self.0.value().to_vec())))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Vec<u8>, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.0.step(true)?;
        Some(stepped.map(|version| {
            let value = self.0.value().to_vec();
            (self.0.key().to_vec(), Entry { value, version })
        }))
    }
}

impl std::iter::FusedIterator for Keys<'_> {}
impl std::iter::FusedIterator for Iter<'_> {}
impl std::iter::FusedIterator for Entries<'_> {}
