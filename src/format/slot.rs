//! Slots: the link that publishes an entry, and the fields beside it.
//!
//! Packs and unpacks the words of a slot. May call `format::heap_addr`.

use crate::format::heap_addr::HeapAddr;

/// Bytes of a link. Links are stored apart from the bodies, packed: a search that ends at the record
/// needs nothing else, and eight of them share a cache line (get of a hit among a million entries:
/// 500 ns with link and body in one place).
pub(crate) const LINK_BYTES: usize = 8;

/// Bytes of a slot's body: the identity.
///
/// Key, version and lengths are in the record, which a lookup reads anyway. Format 1 repeated them in
/// 56 bytes more: an entry of 28 bytes of key and 16 of value took 231 bytes of disk.
pub(crate) const BODY_BYTES: usize = 8;
/// Those in a `Cache`: the identity and the deadline.
pub(crate) const EXPIRING_BODY_BYTES: usize = 16;

/// Positions in a slot's body, in words.
pub(crate) mod word {
    pub(crate) const IDENTITY: usize = 0;
    /// In a `Cache` only.
    pub(crate) const DEADLINE: usize = 1;
}

const _: () = assert!((word::IDENTITY + 1) * 8 == BODY_BYTES);
const _: () = assert!((word::DEADLINE + 1) * 8 == EXPIRING_BODY_BYTES);

/// The word that publishes what a slot holds: nothing, a deleted entry, or the address of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(pub u64);

impl Link {
    pub(crate) const NEVER: Self = Self(0);
    pub(crate) const DELETED: Self = Self(1);
    const GONE: u64 = 1 << 48;

    pub(crate) fn new(addr: HeapAddr, tag: u16) -> Self {
        debug_assert!(addr.unit > 1 && tag < 1 << 15);
        Self(addr.to_word() | (u64::from(tag) << 49))
    }

    /// Returns the address of the record.
    #[inline]
    pub(crate) fn addr(self) -> HeapAddr {
        HeapAddr::from_word(self.0)
    }

    /// Returns whether the record is a deletion: only in an index that is being rebuilt.
    #[inline]
    pub(crate) fn is_gone(self) -> bool {
        self.0 & Self::GONE != 0
    }

    /// Returns the same link to a record that is a deletion, if `is_gone`.
    pub(crate) fn with_gone(self, is_gone: bool) -> Self {
        Self(if is_gone {
            self.0 | Self::GONE
        } else {
            self.0 & !Self::GONE
        })
    }

    #[inline]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> 49) as u16
    }

    /// Returns whether two links agree on place and tag.
    #[inline]
    pub(crate) fn is_same_place(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::GONE == 0
    }

    /// Returns whether the link leads to a record. The two vacant links do not, nor do some corrupt
    /// ones.
    #[inline]
    pub(crate) fn is_entry(self) -> bool {
        self.0 as u32 > 1
    }
}

/// The position of an entry in the roster, the size of its record, and a part of its key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotIdentity {
    pub position: u32,
    /// The units of heap that the record takes, [`MANY_UNITS`] if there are more. A writer that was
    /// killed may have left those of the record that it was about to link.
    pub units: u16,
    /// The directory bits of the hash that the tag does not repeat. With tag and control byte they are
    /// 38 bits, by which an entry is known whose record is damaged.
    pub hash: u16,
}

/// Units of a record that are as many as a slot can say, or more: half a MiB.
pub(crate) const MANY_UNITS: u16 = u16::MAX;

/// Returns what a slot says of the size of a record, from its bytes in the heap.
#[inline]
pub(crate) fn units_of(stored_bytes: u64) -> u16 {
    (stored_bytes / 8).min(u64::from(MANY_UNITS)) as u16
}

impl SlotIdentity {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.position) | (u64::from(self.units) << 32) | (u64::from(self.hash) << 48)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            position: word as u32,
            units: (word >> 32) as u16,
            hash: (word >> 48) as u16,
        }
    }
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
        for (is_gone, tag) in [(false, 0), (true, 0x7fff), (false, 0x5555)] {
            let link = Link::new(addr, tag).with_gone(is_gone);
            assert_eq!(
                (link.addr(), link.is_gone(), link.tag()),
                (addr, is_gone, tag)
            );
            assert!(link.is_entry() && !link.with_gone(false).is_gone());
            assert!(link.is_same_place(link.with_gone(!is_gone)));
        }
        assert!(!Link::NEVER.is_entry() && !Link::DELETED.is_entry());
    }
}
