//! A hasher for maps whose keys bring their hash with them.

use std::hash::{BuildHasher, Hasher};

/// Makes maps with handles for keys that compute no hash: a handle brings its own.
///
/// Such a map lists the same entries in the same order in every run, if the pool's
/// [seed](crate::PoolOptions::seed) is fixed. Keys may be [`Interned`](crate::Interned),
/// [`TypedInterned`](crate::TypedInterned) and whatever is hashed by a single `write_u64` that is
/// spread well; other keys are hashed, but badly.
///
/// ```
/// use std::collections::HashMap;
/// use mmapcache::{Interned, Pool, StoredHash};
///
/// let pool = Pool::new();
/// let mut peers: HashMap<Interned, Vec<u32>, StoredHash> = HashMap::default();
/// peers.entry(pool.intern("blocks")).or_default().push(7);
/// assert_eq!(peers[&pool.intern("blocks")], [7]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct StoredHash(u64);

impl BuildHasher for StoredHash {
    type Hasher = Self;

    #[inline]
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for StoredHash {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 ^= hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
