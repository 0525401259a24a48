//! The hash of a key, and which of its 64 bits serves which purpose.
//!
//! The slot of an entry keeps every bit that the index uses (tag, control, directory), so that a
//! region can be split without reading a single key. May call `format`.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::format::{HashKind, MAX_DIRECTORY_BITS};

/// A keyed hash function, with the kind and the seed that the file stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hasher {
    kind: HashKind,
    seed: u64,
}

impl fmt::Debug for Hasher {
    /// Omits the seed: an attacker who has it can choose keys that collide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.kind;
        f.debug_struct("Hasher")
            .field("kind", kind)
            .finish_non_exhaustive()
    }
}

impl Hasher {
    pub(crate) fn new(kind: HashKind, seed: u64) -> Self {
        Self { kind, seed }
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> Hash {
        let hash = xxh3_64_with_seed(key, self.seed);
        match self.kind {
            HashKind::Xxh3 => Hash(hash),
            #[cfg(any(test, fuzzing))]
            HashKind::Colliding => Hash(hash & Hash::COLLIDING_BITS),
        }
    }

    /// Returns the hash of a fixed text. A file with another value was created with another function.
    pub(crate) fn check_value(&self) -> u64 {
        xxh3_64_with_seed(b"mmapcache hash check", self.seed)
    }
}

/// The 64-bit hash of a key.
///
/// | bits | purpose |
/// |---|---|
/// | 0..16 | the upper 16 of the 20 directory bits; kept in the slot |
/// | 16..24 | what a vacant slot of a `Cache` remembers of its last key: its mark |
/// | 24..32 | which vacant slot of a group a new entry of a `Cache` takes |
/// | 42..57 | tag, kept in the link: 42..49 choose the group inside a region, 53..57 are the lowest directory bits |
/// | 57..64 | control byte |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u64);

impl Hash {
    /// Under the colliding test hash: one of two groups, four tags, and two directory bits. And the
    /// directory bits that no small table uses: they tell damaged entries of different keys apart.
    #[cfg(any(test, fuzzing))]
    const COLLIDING_BITS: u64 =
        (1 << 42) | (1 << 50) | (1 << 53) | (1 << 1) | (1 << 60) | (0xff << 8);

    /// Rebuilds the bits that the index uses from a slot, its link and its control byte.
    pub(crate) fn from_parts(stored: u16, tag: u16, control: u8) -> Self {
        debug_assert!(tag < 1 << 15, "the bit above belongs to the control byte");
        Self(u64::from(stored) | (u64::from(tag) << 42) | (u64::from(control & 0x7f) << 57))
    }

    /// Returns the bits that the slot's body keeps.
    #[inline]
    pub(crate) fn stored(self) -> u16 {
        self.0 as u16
    }

    /// Returns the 15 bits that the link keeps.
    #[inline]
    pub(crate) fn tag(self) -> u16 {
        ((self.0 >> 42) & 0x7fff) as u16
    }

    /// Returns the control byte of a full slot.
    #[inline]
    pub(crate) fn control(self) -> u8 {
        0x80 | (self.0 >> 57) as u8
    }

    /// Returns the group at which a probe starts.
    #[inline]
    pub(crate) fn group(self) -> usize {
        ((self.0 >> 42) & 0x7f) as usize
    }

    /// Returns the mark by which a vacant slot remembers an evicted key: more than any count of uses.
    #[inline]
    pub(crate) fn ghost(self) -> u8 {
        ((self.0 >> 16) as u8).max(4)
    }

    /// Returns a number below `end` that is independent of the other bits.
    #[inline]
    pub(crate) fn choice(self, end: u32) -> u32 {
        (u32::from((self.0 >> 24) as u8) * end) >> 8
    }

    /// Returns the directory bits; the low `depth` of them are the index at that depth.
    #[inline]
    pub(crate) fn directory(self) -> u32 {
        const { assert!(MAX_DIRECTORY_BITS == 20) };
        (((self.0 >> 53) & 0xf) | ((self.0 & 0xffff) << 4)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A slot keeps every bit of the hash that the index needs.
    #[test]
    fn slot_keeps_all_hash_bits() {
        let hasher = Hasher::new(HashKind::Xxh3, 7);
        for i in 0..1_000_u32 {
            let hash = hasher.hash(&i.to_le_bytes());
            let again = Hash::from_parts(hash.stored(), hash.tag(), hash.control());
            assert_eq!(again.directory(), hash.directory());
            assert_eq!(again.group(), hash.group());
            assert_eq!(again.control(), hash.control());
            assert_eq!(again.tag(), hash.tag());
        }
    }

    #[test]
    fn check_value_depends_on_seed() {
        let a = Hasher::new(HashKind::Xxh3, 1).check_value();
        let b = Hasher::new(HashKind::Xxh3, 2).check_value();
        assert_ne!(a, b);
    }
}
