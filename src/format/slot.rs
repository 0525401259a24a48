//! Slots: the link that publishes an entry, and the fields beside it.
//!
//! Knows the packing of a slot's words, not where slots stand.

/// Bytes of a slot without its part of the key: the link, and the body's fixed fields.
pub(crate) const FIXED_BYTES: usize = LINK_BYTES + 40;
/// Bytes of a link. Links stand apart from the bodies, packed: a search that ends at the record
/// needs nothing else, and eight of them share a cache line (get of a hit among a million entries:
/// 500 ns with link and body in one place).
pub(crate) const LINK_BYTES: usize = 8;

/// Bytes of a slot where records are numbered: a link and an identity.
pub(crate) const NUMBERED_BYTES: usize = LINK_BYTES + 8;

/// Places in a slot's body, in words.
pub(crate) mod word {
    pub(crate) const IDENTITY: usize = 0;
    /// Two words each: meta A here, meta B behind it.
    pub(crate) const META: usize = 1;
    pub(crate) const KEY: usize = 5;
}

// The key's part follows the fixed one.
const _: () = assert!(LINK_BYTES + word::KEY * 8 == FIXED_BYTES && FIXED_BYTES == 48);

/// Where a record starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The segment's number.
    pub segment: u16,
    /// Units of eight bytes from the segment's start.
    pub unit: u32,
}

impl Place {
    /// Behind every record.
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

    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.unit) * 8
    }
}

/// How far cleaning has come in the oldest segment.
///
/// It carries a checksum of its own: believing a damaged one would remove a segment with live
/// records in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub place: Place,
    /// Whether the walk of this segment met damage.
    pub damage: bool,
}

impl Cursor {
    const DAMAGE: u64 = 1 << 48;

    pub(crate) fn at(place: Place) -> Self {
        Self {
            place,
            damage: false,
        }
    }

    pub(crate) fn to_word(self) -> u64 {
        let content = self.place.to_word() | if self.damage { Self::DAMAGE } else { 0 };
        content | Self::check(content) << 49
    }

    /// None where the word is damaged.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let content = word & ((1 << 49) - 1);
        let right = word >> 49 == Self::check(content);
        right.then_some(Self {
            place: Place::from_word(word),
            damage: word & Self::DAMAGE != 0,
        })
    }

    /// Fifteen bits that depend on all others.
    fn check(content: u64) -> u64 {
        (content ^ (content >> 23)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49
    }
}

/// Where the records end that replace those of the segments below a number: once the heap is synced
/// up to there, these segments may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub below: u16,
    pub upto: Place,
}

impl Replaced {
    pub(crate) fn to_word(self) -> u64 {
        self.upto.to_word() | u64::from(self.below) << 48
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            below: (word >> 48) as u16,
            upto: Place::from_word(word),
        }
    }
}

/// The word that says what a slot holds: nothing, a deleted entry, or the place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(pub u64);

impl Link {
    pub(crate) const NEVER: Self = Self(0);
    pub(crate) const DELETED: Self = Self(1);
    const WHICH: u64 = 1 << 48;

    pub(crate) fn new(place: Place, which: bool, tag: u16) -> Self {
        debug_assert!(place.unit > 1 && tag < 1 << 15);
        Self(place.to_word() | if which { Self::WHICH } else { 0 } | (u64::from(tag) << 49))
    }

    #[inline]
    pub(crate) fn place(self) -> Place {
        Place::from_word(self.0)
    }

    /// Whether meta B, not A, belongs to the record.
    #[inline]
    pub(crate) fn which(self) -> bool {
        self.0 & Self::WHICH != 0
    }

    #[inline]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> 49) as u16
    }

    /// Whether the link leads to a record; the two vacant links and damaged ones do not.
    #[inline]
    pub(crate) fn is_entry(self) -> bool {
        self.0 as u32 > 1
    }
}

/// What a slot says of its key and of its own place in the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub position: u32,
    pub key_len: u16,
    /// The directory bits of the hash that the tag does not repeat.
    pub hash: u16,
}

impl Identity {
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

/// What a slot repeats of the record it links to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub mtime: u64,
    pub value_len: u32,
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
            let cursor = Cursor {
                place: Place { segment, unit },
                damage,
            };
            let word = cursor.to_word();
            assert_eq!(Cursor::from_word(word), Some(cursor));
            assert!((0..64).all(|bit| Cursor::from_word(word ^ (1 << bit)).is_none()));
        }
    }

    #[test]
    fn link_round_trips() {
        let place = Place {
            segment: 0xfedc,
            unit: 0x8765_4321,
        };
        for (which, tag) in [(false, 0), (true, 0x7fff), (false, 0x5555)] {
            let link = Link::new(place, which, tag);
            assert_eq!(
                (link.place(), link.which(), link.tag()),
                (place, which, tag)
            );
            assert!(link.is_entry());
        }
        assert!(!Link::NEVER.is_entry() && !Link::DELETED.is_entry());
    }
}
