//! The handle of an interned value.
//!
//! Knows how handles are compared, hashed and shown, and that the last one reports; what happens
//! then is decided by the shard.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::sync::Relaxed;

use crate::intern::pool::entry::Entry;
use crate::intern::pool::shard;

/// A value that a [`Pool`](crate::Pool) holds once: one pointer wide, as is `Option<Interned>`.
///
/// # Equality
///
/// Two handles are equal if they are handles of the same entry, which takes one comparison. Handles
/// of one pool are equal exactly if their bytes are. Handles of two pools never are, whatever their
/// bytes, nor are those from before and after a [`reset`](crate::Pool::reset): they stand for what
/// different pools knew. Compare the bytes, `*a == *b`, where that is meant.
///
/// # As a key
///
/// The hash is that of the bytes and the pool's seed, computed once, when the value was interned.
/// So a map with handles for keys has the semantics of one with strings, as long as they come from
/// one pool. It is no `Borrow<[u8]>`, for the hash of a slice is another one: intern, or
/// [look up](crate::Pool::lookup), what is to be found. [`StoredHash`](crate::StoredHash) makes maps
/// that hash nothing more.
///
/// The order is that of the bytes; of different entries with the same bytes, any that stays.
///
/// # Memory
///
/// The bytes stay where they are as long as there is a handle: after a reset, and when the pool is
/// gone, too.
pub struct Interned(Entry);

impl Interned {
    /// A new handle. Under the lock of the entry's shard, for an entry that its table holds.
    #[inline]
    pub(super) fn adopt(entry: &Entry) -> Self {
        if entry.header().home.is_some() {
            entry.header().handles.fetch_add(1, Relaxed);
        }
        Self(entry.clone())
    }

    /// The value.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The value as text, where it is UTF-8: looked at each time.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// The hash of the bytes and the pool's seed.
    #[inline]
    pub fn stored_hash(&self) -> u64 {
        self.0.header().hash
    }
}

impl Clone for Interned {
    #[inline]
    fn clone(&self) -> Self {
        // There is one handle at least: the count does not leave zero here.
        Self::adopt(&self.0)
    }
}

impl Drop for Interned {
    #[inline]
    fn drop(&mut self) {
        if let Some(home) = &self.0.header().home
            && self.0.header().handles.fetch_sub(1, Relaxed) == 1
        {
            shard::release(home, &self.0);
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

/// As text; what is no UTF-8 shows as the replacement character.
impl fmt::Display for Interned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.as_bytes()))
    }
}
