//! Slots: the link that publishes an entry, and the fields beside it.
//!
//! Packs and unpacks the words of a slot. May call `format::heap_addr` and `format::life`.

use crate::format::heap_addr::HeapAddr;
use crate::format::life::Life;

/// Bytes of a slot without its part of the key: the link, and the body's fixed fields.
pub(crate) const FIXED_BYTES: usize = LINK_BYTES + 40;
/// Bytes of a link. Links are stored apart from the bodies, packed: a search that ends at the record
/// needs nothing else, and eight of them share a cache line (get of a hit among a million entries:
/// 500 ns with link and body in one place).
pub(crate) const LINK_BYTES: usize = 8;

/// Bytes of a slot in a numbered cache: a link and an identity.
pub(crate) const NUMBERED_BYTES: usize = LINK_BYTES + 8;

/// Positions in a slot's body, in words.
pub(crate) mod word {
    pub(crate) const IDENTITY: usize = 0;
    /// Two words each: meta A here, meta B after it.
    pub(crate) const META: usize = 1;
    pub(crate) const KEY: usize = 5;
}

// The key's part follows the fixed one.
const _: () = assert!(LINK_BYTES + word::KEY * 8 == FIXED_BYTES && FIXED_BYTES == 48);

/// The word that publishes what a slot holds: nothing, a deleted entry, or the address of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(pub u64);

impl Link {
    pub(crate) const NEVER: Self = Self(0);
    pub(crate) const DELETED: Self = Self(1);
    const WHICH: u64 = 1 << 48;

    pub(crate) fn new(addr: HeapAddr, which: bool, tag: u16) -> Self {
        debug_assert!(addr.unit > 1 && tag < 1 << 15);
        Self(addr.to_word() | if which { Self::WHICH } else { 0 } | (u64::from(tag) << 49))
    }

    /// Returns the address of the record.
    #[inline]
    pub(crate) fn addr(self) -> HeapAddr {
        HeapAddr::from_word(self.0)
    }

    /// Returns whether meta B, not A, belongs to the record (S5).
    #[inline]
    pub(crate) fn which(self) -> bool {
        self.0 & Self::WHICH != 0
    }

    #[inline]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> 49) as u16
    }

    /// Returns whether two links agree on place and tag.
    #[inline]
    pub(crate) fn is_same_place(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::WHICH == 0
    }

    /// Returns whether the link leads to a record. The two vacant links do not, nor do some corrupt
    /// ones.
    #[inline]
    pub(crate) fn is_entry(self) -> bool {
        self.0 as u32 > 1
    }
}

/// What a slot repeats of its key, and its position in the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotIdentity {
    pub position: u32,
    pub key_len: u16,
    /// The directory bits of the hash that the tag does not repeat.
    pub hash: u16,
}

impl SlotIdentity {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.position) | (u64::from(self.key_len) << 32) | (u64::from(self.hash) << 48)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            position: word as u32,
            key_len: (word >> 32) as u16,
            hash: (word >> 48) as u16,
        }
    }
}

/// What a slot repeats of the record that its link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordMeta {
    pub mtime: u64,
    pub value_len: u32,
    /// None but in a `Cache`. Not checked by anything: the record decides whether an entry is fresh.
    pub life: Life,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_round_trips() {
        let addr = HeapAddr {
            segment: 0xfedc,
            unit: 0x8765_4321,
        };
        for (which, tag) in [(false, 0), (true, 0x7fff), (false, 0x5555)] {
            let link = Link::new(addr, which, tag);
            assert_eq!((link.addr(), link.which(), link.tag()), (addr, which, tag));
            assert!(link.is_entry());
        }
        assert!(!Link::NEVER.is_entry() && !Link::DELETED.is_entry());
    }
}
