//! The handle of an interned value.
//!
//! Defines how handles are compared, hashed and shown. The last handle of a value reports to its
//! shard, which decides what happens then.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::sync::Relaxed;

use crate::intern::pool::entry::Entry;
use crate::intern::pool::shard;

/// A value that a [`Pool`](crate::intern::Pool) holds once: one pointer wide, as is `Option<Interned>`.
///
/// # Equality
///
/// Two handles are equal if they are handles of the same entry, which takes one comparison. Handles
/// of one pool are equal exactly if their bytes are. Handles of two pools are never equal, whatever
/// their bytes, nor are handles from before and after a [`reset`](crate::intern::Pool::reset). To
/// compare the bytes, write `*a == *b`.
///
/// # As a key
///
/// The hash is computed once, from the bytes and the seed of the pool, when the value is interned. So
/// a map with handles of one pool as keys behaves as one with strings. `Interned` does not implement
/// `Borrow<[u8]>`, because a slice has another hash: to look up bytes, intern them or
/// [`get`](crate::intern::Pool::get) their handle first.
/// [`StoredHash`](crate::intern::StoredHash) makes maps that use the stored hash as it is.
///
/// The order is that of the bytes; different entries with the same bytes have a fixed order.
///
/// # Memory
///
/// The bytes stay valid and in place as long as a handle exists, also after a reset and after the pool
/// was dropped.
pub struct Interned(Entry);

impl Interned {
    /// Makes a handle. Call it under the lock of the shard whose table holds the entry (P2).
    #[inline]
    pub(super) fn adopt(entry: &Entry) -> Self {
        if entry.header().home.is_some() {
            entry.header().handles.fetch_add(1, Relaxed);
        }
        Self(entry.clone())
    }

    /// Returns the value.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Returns the value as text, or `None` if it is not UTF-8. Each call validates it.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// Returns the hash of the bytes with the pool's seed.
    #[inline]
    pub fn stored_hash(&self) -> u64 {
        self.0.header().hash
    }
}

impl Clone for Interned {
    #[inline]
    fn clone(&self) -> Self {
        // P2: `self` is a handle, so the count does not leave zero here.
        Self::adopt(&self.0)
    }
}

impl Drop for Interned {
    #[inline]
    fn drop(&mut self) {
        if let Some(home) = &self.0.header().home {
            let before = self.0.header().handles.fetch_sub(1, Relaxed);
            debug_assert_ne!(before, 0, "P2: each handle was counted");
            // P4: `self.0` keeps the memory until the shard is done with the entry.
            if before == 1 {
                shard::release(home, &self.0);
            }
        }
    }
}

impl Deref for Interned {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Interned {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Interned {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.address() == other.0.address()
    }
}

impl Eq for Interned {}

impl Hash for Interned {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.stored_hash());
    }
}

impl PartialOrd for Interned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interned {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        let of_bytes = self.as_bytes().cmp(other.as_bytes());
        of_bytes.then_with(|| self.0.address().cmp(&other.0.address()))
    }
}

impl fmt::Debug for Interned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interned(b\"{}\")", self.as_bytes().escape_ascii())
    }
}

/// Shows the value as text, with replacement characters for bytes that are not UTF-8.
impl fmt::Display for Interned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.as_bytes()))
    }
}
