//! The checksums of the files, and how a mutation makes them valid again after a change.
//!
//! Follows `docs/format.md`. A repaired checksum is a lie: the engine must then handle what it
//! covers as if the engine had written it.

use std::ops::Range;

use super::image::{Image, segment_number};
use super::layout::{FIRST_RECORD, RECORD_HEADER, Record, header, place, set_u32, set_u64, u64_at};

/// Spreads a word over all bits of a checksum.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Something that a checksum covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// The sealed header of a file.
    Header { suffix: String },
    /// A record, at its place before the change.
    Record {
        suffix: String,
        segment: u16,
        at: usize,
    },
    /// The word with the clean cursor.
    Cursor,
    /// The number of the first segment.
    Oldest,
    /// The word that commits a redo record, over its contents.
    Redo,
}

/// Returns the length of the sealed header in a file with this suffix.
pub(crate) fn header_bytes(suffix: &str) -> usize {
    match suffix {
        "" => 128,
        ".roster" => 64,
        _ => 120,
    }
}

/// Computes the checksum of a sealed header.
pub(crate) fn header_sum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..header::CRC]);
    crc.update(&bytes[header::CRC + 4..]);
    crc.finalize()
}

/// Computes the checksum of a record from all of its bytes.
pub(crate) fn record_sum(heap_id: u64, segment: u16, at: usize, record: &[u8]) -> u32 {
    let mixed = (heap_id ^ place(segment, at)).wrapping_mul(SPREAD);
    if record.len() <= 256 {
        let blocks = record[4..].chunks(128);
        let sum = blocks.fold(mixed, |before, block| {
            xxhash_rust::xxh3::xxh3_64_with_seed(block, before)
        });
        return sum as u32;
    }
    let mut crc = crc32fast::Hasher::new_with_initial((mixed >> 32) as u32);
    crc.update(&record[4..]);
    crc.finalize()
}

/// Returns the word that commits a redo record of this kind, body and counters.
pub(crate) fn checked_redo(kind: u64, words: &[u64; 11]) -> u64 {
    let mut sum = kind;
    for (at, word) in (0_u64..).zip(words) {
        sum = sum.wrapping_add(word.wrapping_mul(SPREAD).wrapping_mul(2 * at + 3));
    }
    let mixed = (sum ^ (sum >> 32)).wrapping_mul(SPREAD);
    (mixed >> 8 << 8) | kind
}

/// Returns a cursor with the check of its lower bits.
pub(crate) fn checked_cursor(word: u64) -> u64 {
    let content = word & ((1 << 49) - 1);
    let check = (content ^ (content >> 23)).wrapping_mul(SPREAD) >> 49;
    content | (check << 49)
}

/// Returns a segment number with its check.
pub(crate) fn checked_oldest(word: u64) -> u64 {
    let number = word & 0xffff;
    (number.wrapping_mul(SPREAD) >> 16 << 16) | number
}

/// Returns the heap's id, as the index has it.
pub(crate) fn heap_id(image: &Image) -> Option<u64> {
    let index = image.bytes("");
    (index.len() >= 128).then(|| u64_at(index, header::HEAP_ID))
}

/// Whether a record's checksum is valid at its place in a heap.
pub(crate) fn has_valid_checksum(bytes: &[u8], heap_id: u64, record: &Record) -> bool {
    let stored = super::layout::u32_at(bytes, record.at);
    stored == record_sum(heap_id, record.segment, record.at, &bytes[record.range()])
}

/// Returns the checksums that cover a range of a file of the unchanged image `before`.
pub(crate) fn covering(before: &[Record], suffix: &str, range: &Range<usize>) -> Vec<Checksum> {
    let mut found = Vec::new();
    if range.start < header_bytes(suffix) {
        found.push(Checksum::Header {
            suffix: suffix.to_owned(),
        });
    }
    if suffix.is_empty() && range.start < header::CURSOR + 8 && range.end > header::CURSOR {
        found.push(Checksum::Cursor);
    }
    if suffix.is_empty() && range.start < header::OLDEST + 8 && range.end > header::OLDEST {
        found.push(Checksum::Oldest);
    }
    let end = header::INTENT_COUNTERS + 64;
    if suffix.is_empty() && range.start < end && range.end > header::INTENT {
        found.push(Checksum::Redo);
    }
    if let Some(segment) = segment_number(suffix) {
        let touched = before.iter().filter(|record| {
            let own = record.range();
            record.segment == segment && range.start < own.end && range.end > own.start
        });
        found.extend(touched.map(|record| Checksum::Record {
            suffix: suffix.to_owned(),
            segment,
            at: record.at,
        }));
    }
    found
}

/// Makes a checksum valid for the present bytes. Returns false if nothing can: the file ends
/// earlier, or the bytes are no record.
pub(crate) fn repair(image: &mut Image, checksum: &Checksum) -> bool {
    match checksum {
        Checksum::Header { suffix } => repair_header(image, suffix),
        Checksum::Record {
            suffix,
            segment,
            at,
        } => {
            let heap_id = heap_id(image);
            heap_id.is_some_and(|heap_id| repair_record(image, heap_id, suffix, *segment, *at))
        }
        Checksum::Cursor => repair_word(image, header::CURSOR, checked_cursor),
        Checksum::Oldest => repair_word(image, header::OLDEST, checked_oldest),
        Checksum::Redo => repair_redo(image),
    }
}

/// Makes a word with its own check valid.
fn repair_word(image: &mut Image, at: usize, checked: fn(u64) -> u64) -> bool {
    let Some(index) = image
        .bytes_mut("")
        .filter(|index| index.len() >= header::END)
    else {
        return false;
    };
    let word = checked(u64_at(index, at));
    set_u64(index, at, word);
    true
}

/// Commits whatever the redo record says, if its kind is not zero.
fn repair_redo(image: &mut Image) -> bool {
    let Some(index) = image
        .bytes_mut("")
        .filter(|index| index.len() >= header::END)
    else {
        return false;
    };
    let kind = u64_at(index, header::INTENT) & 0xff;
    let words: [u64; 11] = std::array::from_fn(|at| match at {
        ..3 => u64_at(index, header::INTENT_BODY + 8 * at),
        _ => u64_at(index, header::INTENT_COUNTERS + 8 * (at - 3)),
    });
    if kind > 0 {
        set_u64(index, header::INTENT, checked_redo(kind, &words));
    }
    true
}

fn repair_header(image: &mut Image, suffix: &str) -> bool {
    let length = header_bytes(suffix);
    let Some(bytes) = image
        .bytes_mut(suffix)
        .filter(|bytes| bytes.len() >= length)
    else {
        return false;
    };
    if length > 64 {
        // Not a checksum but as strict: it fits one seed only.
        let seed = u64_at(bytes, header::HASH_SEED);
        let check = xxhash_rust::xxh3::xxh3_64_with_seed(b"mmapcache hash check", seed);
        set_u64(bytes, header::HASH_CHECK, check);
    }
    let sum = header_sum(&bytes[..length]);
    set_u32(bytes, header::CRC, sum);
    true
}

fn repair_record(image: &mut Image, heap_id: u64, suffix: &str, segment: u16, at: usize) -> bool {
    let Some(bytes) = image.bytes_mut(suffix) else {
        return false;
    };
    if at < FIRST_RECORD || bytes.len() < at + RECORD_HEADER {
        return false;
    }
    let Some(record) = Record::parse(bytes, segment, at) else {
        return false;
    };
    let sum = record_sum(heap_id, segment, at, &bytes[record.range()]);
    set_u32(bytes, at, sum);
    true
}
