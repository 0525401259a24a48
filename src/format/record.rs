//! Records of the heap: a header, the whole key, the value, padding to eight bytes.
//!
//! Knows the packing and the checksum, not where records are kept.

use super::slot::Place;

/// The variant with a 24-byte header.
pub(crate) const VARIANT: u32 = 1;
/// Bytes before the key.
pub(crate) const HEADER_BYTES: usize = 24;
/// The same in words.
pub(crate) const HEADER_WORDS: usize = HEADER_BYTES / 8;
/// The checksum's bytes, at the record's start; it covers what follows them.
pub(crate) const SUM_BYTES: usize = 4;
/// Bytes of header, key and value up to which a record is short.
pub(crate) const SHORT_BYTES: usize = 256;
/// Bytes of a short record that are hashed at once.
const BLOCK_BYTES: usize = 128;

const _: () = assert!(HEADER_BYTES == 24 && HEADER_WORDS * 8 == HEADER_BYTES);

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The key has this value.
    Entry,
    /// The key is gone.
    Deletion,
    /// Nothing: it fills the place of records that a power loss took.
    Gap,
}

impl Kind {
    fn to_disk(self) -> u64 {
        match self {
            Self::Entry => 1,
            Self::Deletion => 2,
            Self::Gap => 3,
        }
    }

    fn from_disk(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Entry),
            2 => Some(Self::Deletion),
            3 => Some(Self::Gap),
            _ => None,
        }
    }
}

/// A record's header, its checksum beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub value_len: u32,
    pub mtime: u64,
    pub key_len: u16,
    pub kind: Kind,
}

impl Header {
    /// The three words, the checksum left zero.
    pub(crate) fn to_words(self) -> [u64; HEADER_WORDS] {
        let last = (u64::from(self.key_len) << 32) | (self.kind.to_disk() << 48);
        [u64::from(self.value_len) << 32, self.mtime, last]
    }

    /// Reads three words; none where they cannot be a record's.
    #[inline]
    pub(crate) fn from_words(words: [u64; HEADER_WORDS]) -> Option<Self> {
        let kind = Kind::from_disk((words[2] >> 48) as u8)?;
        let key_len = (words[2] >> 32) as u16;
        let reserved = words[2] & 0xff00_0000_ffff_ffff;
        if key_len == 0 || reserved != 0 {
            return None;
        }
        Some(Self {
            value_len: (words[0] >> 32) as u32,
            mtime: words[1],
            key_len,
            kind,
        })
    }

    /// Bytes of header, key and value; a damaged length cannot make this overflow.
    #[inline]
    pub(crate) fn content_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.key_len) + u64::from(self.value_len)
    }

    /// Bytes that the record takes in the heap.
    #[inline]
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.content_bytes().next_multiple_of(8)
    }
}

/// What a checksum starts from. It binds a record to one heap and one place: the same bytes
/// elsewhere do not pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    #[inline]
    pub(crate) fn new(heap_id: u64, place: Place) -> Self {
        // Multiplying spreads neighbouring places over all bits: a sum then differs for equal bytes
        // with other seeds.
        Self((heap_id ^ place.to_word()).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The checksum of a short record, from what follows the checksum in it.
    ///
    /// XXH3 in blocks that it is fastest at, each of which the hash of those before seeds: 11 ns for
    /// 148 bytes, where CRC-32 takes 24 and XXH3 in one piece 17.
    #[inline]
    pub(crate) fn sum_short(self, content: &[u8]) -> u32 {
        let sum = content.chunks(BLOCK_BYTES).fold(self.0, |before, block| {
            xxhash_rust::xxh3::xxh3_64_with_seed(block, before)
        });
        sum as u32
    }

    /// The checksum of a long record, to be updated with what follows the checksum in it: CRC-32,
    /// 69 ns for 4 KiB, where XXH3 takes 112.
    #[inline]
    pub(crate) fn long(self) -> LongSum {
        LongSum(crc32fast::Hasher::new_with_initial((self.0 >> 32) as u32))
    }
}

/// The running checksum of a long record.
#[derive(Clone, Debug)]
pub(crate) struct LongSum(crc32fast::Hasher);

impl LongSum {
    #[inline]
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    #[inline]
    pub(crate) fn value(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_back_what_was_packed_into_it() {
        let header = Header {
            value_len: u32::MAX,
            mtime: u64::MAX,
            key_len: u16::MAX,
            kind: Kind::Deletion,
        };
        assert_eq!(Header::from_words(header.to_words()), Some(header));
        assert_eq!(header.content_bytes(), 24 + 65_535 + 0xffff_ffff);
    }

    #[test]
    fn zeros_and_unknown_kinds_are_no_record() {
        assert_eq!(Header::from_words([0; 3]), None);
        assert_eq!(Header::from_words([0, 1, (1 << 32) | (4 << 48)]), None);
        assert_eq!(Header::from_words([0, 1, 1 << 48]), None, "no key");
    }

    #[test]
    fn the_same_bytes_at_another_place_or_in_another_heap_do_not_pass() {
        let sums = |heap, segment, unit| {
            let seed = Seed::new(heap, Place { segment, unit });
            let mut long = seed.long();
            long.update(b"some bytes");
            [seed.sum_short(b"some bytes"), long.value()]
        };
        let there = sums(1, 0, 16);
        assert_eq!(there, sums(1, 0, 16));
        for elsewhere in [sums(1, 0, 17), sums(1, 1, 16), sums(2, 0, 16)] {
            assert_ne!(there[0], elsewhere[0]);
            assert_ne!(there[1], elsewhere[1]);
        }
    }
}
