//! A hasher for maps whose keys carry their hash.

use std::hash::{BuildHasher, Hasher};

/// A `BuildHasher` that takes the hash a handle carries instead of computing one.
///
/// Such a map lists the same entries in the same order in every run, if the pool's
/// [seed](crate::intern::PoolOptions::seed) is fixed. Keys should be [`Interned`](crate::intern::Interned),
/// [`TypedInterned`](crate::intern::TypedInterned), or another type that is hashed by one `write_u64` of
/// well-distributed bits; other keys work, with a hash that is weak.
///
/// ```
/// use std::collections::HashMap;
/// use mmapcache::intern::{Interned, Pool, StoredHash};
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
