//! Addresses in the heap: where a record starts, how far cleaning has come, and how far the heap
//! must be synced before evacuated segments go.
//!
//! Packs and unpacks words; calls no other module.

/// The address of a record: a segment, and a position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HeapAddr {
    /// The segment's number.
    pub segment: u16,
    /// Units of eight bytes from the segment's start.
    pub unit: u32,
}

impl HeapAddr {
    /// After every record.
    pub(crate) const LAST: Self = Self {
        segment: u16::MAX,
        unit: u32::MAX,
    };

    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.unit) | (u64::from(self.segment) << 32)
    }

    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            segment: (word >> 32) as u16,
            unit: word as u32,
        }
    }

    /// Returns the bytes from the segment's start.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.unit) * 8
    }
}

/// The clean cursor: how far cleaning has come in the oldest segment that is not yet evacuated.
///
/// It has a checksum of its own, because following a corrupt cursor would remove a segment with live
/// records in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CleanCursor {
    pub addr: HeapAddr,
    /// Whether the scan of this segment met corruption.
    pub damage: bool,
}

impl CleanCursor {
    const DAMAGE: u64 = 1 << 48;

    pub(crate) fn at(addr: HeapAddr) -> Self {
        Self {
            addr,
            damage: false,
        }
    }

    pub(crate) fn to_word(self) -> u64 {
        let content = self.addr.to_word() | if self.damage { Self::DAMAGE } else { 0 };
        content | Self::check(content) << 49
    }

    /// Unpacks a word. `None` if its checksum does not match.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let content = word & ((1 << 49) - 1);
        let matches = word >> 49 == Self::check(content);
        matches.then_some(Self {
            addr: HeapAddr::from_word(word),
            damage: word & Self::DAMAGE != 0,
        })
    }

    /// Returns fifteen bits that depend on all other bits.
    fn check(content: u64) -> u64 {
        (content ^ (content >> 23)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49
    }
}

/// The end of the records that replace those of the segments below a number. Once the heap is synced
/// up to there, these segments may be removed (H4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub below: u16,
    pub upto: HeapAddr,
}

impl Replaced {
    pub(crate) fn to_word(self) -> u64 {
        self.upto.to_word() | u64::from(self.below) << 48
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            below: (word >> 48) as u16,
            upto: HeapAddr::from_word(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_cursor_detects_flipped_bits() {
        for (segment, unit, damage) in [
            (0, 16, false),
            (7, 123_456, true),
            (u16::MAX, u32::MAX, false),
        ] {
            let cursor = CleanCursor {
                addr: HeapAddr { segment, unit },
                damage,
            };
            let word = cursor.to_word();
            assert_eq!(CleanCursor::from_word(word), Some(cursor));
            assert!((0..64).all(|bit| CleanCursor::from_word(word ^ (1 << bit)).is_none()));
        }
    }
}
