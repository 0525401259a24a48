//! A private copy of one record, header, key and value in one buffer.
//!
//! The checksum is computed from the copy (M1, M3). May call `format`, `os::mmap` and `sync`.

use crate::format::record::{ChecksumSeed, RecordHeader, SHORT_BYTES, SUM_BYTES};
use crate::os::mmap;
use crate::sync::Word;

/// Bytes of a long record that are copied at once, so that they are summed from the nearest cache.
const CHUNK: usize = 4096;

/// The copy of the record that was read last. The bytes are copied once, and the buffer is not cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct WholeRecord {
    /// May be longer than the record.
    bytes: Vec<u8>,
    key_at: usize,
    value_at: usize,
    end: usize,
}

impl WholeRecord {
    /// Returns the key of the record that was read last.
    #[inline(always)]
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[self.key_at..self.value_at]
    }

    /// Returns its value.
    #[inline(always)]
    pub(crate) fn value(&self) -> &[u8] {
        &self.bytes[self.value_at..self.end]
    }

    /// Copies the record that has this header. Returns whether the copy is valid.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        seed: ChecksumSeed,
        header: RecordHeader,
        record: &[Word],
    ) -> bool {
        debug_assert_eq!(record.len() as u64 * 8, header.stored_bytes());
        let stored = record.len() * 8;
        if self.bytes.len() < stored {
            self.bytes.resize(stored, 0);
        }
        self.key_at = header.variant.header_bytes();
        self.value_at = self.key_at + usize::from(header.key_len);
        self.end = self.value_at + header.value_len as usize;
        let bytes = &mut self.bytes[..stored];
        if stored > SHORT_BYTES {
            return fill_long(seed, header, record, bytes, self.end);
        }
        mmap::copy_to(record, bytes);
        header.is_of(bytes) && seed.sum_short(&bytes[SUM_BYTES..self.end]) == stored_sum(bytes)
    }
}

/// Copies a long record piece by piece. Returns whether the copy is valid.
#[inline(never)]
fn fill_long(
    seed: ChecksumSeed,
    header: RecordHeader,
    record: &[Word],
    bytes: &mut [u8],
    end: usize,
) -> bool {
    let mut sum = seed.long();
    for (piece, words) in record.chunks(CHUNK / 8).enumerate() {
        let at = piece * CHUNK;
        mmap::copy_to(words, &mut bytes[at..at + words.len() * 8]);
        let upto = (at + CHUNK).min(end);
        sum.update(&bytes[at.max(SUM_BYTES)..upto.max(SUM_BYTES)]);
    }
    header.is_of(bytes) && sum.value() == stored_sum(bytes)
}

fn stored_sum(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::Segment;
    use crate::sync::{load, store};

    // Records of any length, short and long, are copied whole; one flipped bit is noticed.
    #[test]
    fn copies_are_whole_or_refused() {
        let mut copy = WholeRecord::default();
        for (key_len, value_len) in [(1, 0), (24, 100), (40, 192), (40, 193), (9, 5_000)] {
            let segment = Segment::plain(1 << 16);
            let (key, value) = (vec![3; key_len], vec![5; value_len]);
            let end = segment.put(16, &key, &value);
            let header = segment.whole_mapped(16, 6_000, &mut copy).unwrap();
            assert_eq!(u64::from(end - 16) * 8, header.stored_bytes());
            assert_eq!((copy.key(), copy.value()), (&key[..], &value[..]));
            assert_eq!(segment.whole_mapped(16, 8, &mut copy), None, "too long");
            let content = header.content_bytes() as u32 * 8;
            for bit in (0..content).step_by(13) {
                let word = segment.word((16 + bit / 64) as usize);
                store(word, load(word) ^ 1 << (bit % 64));
                assert_eq!(
                    segment.whole_mapped(16, 6_000, &mut copy),
                    None,
                    "bit {bit}"
                );
                store(word, load(word) ^ 1 << (bit % 64));
            }
        }
    }
}
