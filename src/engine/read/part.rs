//! The part of all keys that one scan of the heap lists: those whose hashes have some bits.
//!
//! Remembers the entries that were listed after they were moved, and splits in two before there are too
//! many of them. May call `hash` and everything below it; reads no file.

use std::collections::HashMap;

use crate::format::MAX_DIRECTORY_BITS;
use crate::hash::Hash;

/// A part of the keys, and which of its entries must not be listed again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Directory bits that all its hashes have in common.
    depth: u32,
    bits: u32,
    /// The roster positions (R1) of entries that were listed at a place after the scan's end, with the
    /// directory bits of their hashes.
    moved: HashMap<u32, u32>,
}

impl Part {
    /// Returns whether keys of a hash belong to it.
    #[inline(always)]
    pub(crate) fn has(&self, hash: Hash) -> bool {
        self.is_at(hash.directory())
    }

    fn is_at(&self, bits: u32) -> bool {
        bits & ((1 << self.depth) - 1) == self.bits
    }

    /// Notes that a moved entry is listed. Returns false if it was before.
    pub(crate) fn note_moved(&mut self, position: u32, hash: Hash) -> bool {
        debug_assert!(self.has(hash), "an entry of this part");
        self.moved.insert(position, hash.directory()).is_none()
    }

    /// If it remembers more than `most` entries, keeps one half of its hashes, and returns the other.
    pub(crate) fn split_beyond(&mut self, most: usize) -> Option<Self> {
        if self.moved.len() <= most || self.depth == MAX_DIRECTORY_BITS {
            return None;
        }
        let mut other = Self {
            depth: self.depth + 1,
            bits: self.bits | 1 << self.depth,
            moved: HashMap::new(),
        };
        self.depth += 1;
        other.moved = self
            .moved
            .extract_if(|_, bits| other.is_at(*bits))
            .collect();
        debug_assert!(self.moved.values().all(|&bits| self.is_at(bits)));
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HashKind;
    use crate::hash::Hasher;

    // Each hash is in exactly one part, with what was noted of it.
    #[test]
    fn parts_divide_all_hashes() {
        let hasher = Hasher::new(HashKind::Xxh3, 5);
        let hash = |i: u32| hasher.hash(&i.to_le_bytes());
        let mut parts = vec![Part::default()];
        for i in 0..1_000 {
            let mut owners = parts.iter_mut().filter(|part| part.has(hash(i)));
            let owner = owners.next().unwrap();
            assert!(owner.note_moved(i, hash(i)));
            assert!(!owner.note_moved(i, hash(i)), "it was listed");
            let other = owner.split_beyond(10);
            assert!(owners.next().is_none(), "only one part has it");
            parts.extend(other);
        }
        assert!(parts.len() > 64, "{}", parts.len());
        assert!(parts.iter().all(|part| part.moved.len() <= 11));
        for i in 0..1_000 {
            let mut owners = parts.iter_mut().filter(|part| part.has(hash(i)));
            assert!(
                !owners.next().unwrap().note_moved(i, hash(i)),
                "{i} is noted"
            );
        }
    }

    // Hashes that no bit tells apart stay together: the part grows, and the listing ends.
    #[test]
    fn equal_hashes_stay_one_part() {
        let hash = Hasher::new(HashKind::Xxh3, 5).hash(b"key");
        let mut part = Part::default();
        for i in 0..100 {
            assert!(part.note_moved(i, hash));
            if let Some(other) = part.split_beyond(3)
                && other.has(hash)
            {
                part = other;
            }
        }
        assert_eq!((part.depth, part.moved.len()), (MAX_DIRECTORY_BITS, 100));
    }
}
