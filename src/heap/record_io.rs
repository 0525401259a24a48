//! Reading and writing the words of one record.
//!
//! Another process may change the words while they are read, so a record is copied into private
//! memory and its checksum is computed from that copy (M1, M3). May call `format`, `os::words`,
//! `os::mmap` and `sync`.

use crate::format::record::{
    ChecksumSeed, HEADER_BYTES, HEADER_WORDS, NUMBERED_WORDS, RecordHeader, SHORT_BYTES, SUM_BYTES,
    Variant,
};
use crate::os::mmap;
use crate::os::words;
use crate::sync::{Word, load};

/// Long records are copied in pieces of this size, which stay in the nearest cache.
const CHUNK: usize = 8192;
/// Words of a short record at most.
const SHORT_WORDS: usize = SHORT_BYTES / 8;

/// The words from which a header was read. A numbered record has fewer.
pub(super) type HeaderWords = [u64; HEADER_WORDS];

/// The words end before the record does.
#[derive(Debug)]
pub(super) struct TooShort;

/// Whether a copied record has the wanted key, and whether it is valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub same_key: bool,
    pub is_valid: bool,
}

/// Reads the header of the record at the start of `rest`. `None` if the words cannot be a record's.
#[inline(always)]
pub(super) fn header_of(variant: Variant, rest: &[Word]) -> Result<Option<RecordHeader>, TooShort> {
    Ok(header_copy(variant, rest)?.map(|(header, _)| header))
}

/// The same, with the words that it was read from.
#[inline(always)]
pub(super) fn header_copy(
    variant: Variant,
    rest: &[Word],
) -> Result<Option<(RecordHeader, HeaderWords)>, TooShort> {
    // A short record may end at the segment's end: only the words of its own header are read.
    let words = match variant {
        Variant::Versioned | Variant::Expiring => first_words::<HEADER_WORDS>(rest)?,
        Variant::Numbered => {
            let [first, second] = first_words::<NUMBERED_WORDS>(rest)?;
            [first, second, 0]
        }
    };
    Ok(RecordHeader::from_words(variant, words).map(|header| (header, words)))
}

#[inline(always)]
fn first_words<const COUNT: usize>(rest: &[Word]) -> Result<[u64; COUNT], TooShort> {
    let first: &[Word; COUNT] = rest.first_chunk().ok_or(TooShort)?;
    Ok(std::array::from_fn(|at| load(&first[at])))
}

/// Copies a record piece by piece into private memory and passes each piece with its offset to
/// `take`. Returns whether the copy is valid; without `verify`, its checksum is not computed.
#[inline(always)]
pub(super) fn copy(
    seed: ChecksumSeed,
    header: RecordHeader,
    record: &[Word],
    verify: bool,
    take: impl FnMut(usize, &[u8]),
) -> bool {
    debug_assert_eq!(record.len() as u64 * 8, header.stored_bytes());
    if record.len() * 8 <= SHORT_BYTES {
        copy_short(seed, header, record, verify, take)
    } else {
        copy_long(seed, header, record, verify, take)
    }
}

/// Copies the value of a record whose key is as long as `key`, and compares the keys. `first` are the
/// words that the header was read from. Appends nothing unless the key is the same and the copy valid.
/// `rest` begins with the record, and may be longer.
#[inline(always)]
pub(super) fn copy_value(
    seed: ChecksumSeed,
    (header, first): (RecordHeader, HeaderWords),
    rest: &[Word],
    (key, verify): (&[u8], bool),
    out: &mut Vec<u8>,
) -> Copied {
    debug_assert_eq!(usize::from(header.key_len), key.len());
    let count = (header.stored_bytes() / 8) as usize;
    debug_assert!(count <= rest.len(), "the caller looked");
    if header.variant == Variant::Numbered {
        copy_numbered(seed, header, &rest[..count], (key, verify))
    } else if count <= SHORT_WORDS {
        copy_short_value(seed, (header, first), (rest, count), (key, verify), out)
    } else {
        copy_long_value(seed, (header, first), &rest[..count], (key, verify), out)
    }
}

/// [`copy_value`] of a short record of `count` words: all of it is copied into one array first.
#[inline(always)]
fn copy_short_value(
    seed: ChecksumSeed,
    (header, first): (RecordHeader, HeaderWords),
    (rest, count): (&[Word], usize),
    (key, verify): (&[u8], bool),
    out: &mut Vec<u8>,
) -> Copied {
    let mut copy = [0_u64; SHORT_WORDS];
    mmap::copy_first(rest, count, &mut copy);
    // The header is then that of the copy. Word by word: two at once would be loaded as one from where
    // they were stored as two, and the processor would wait for those stores.
    for (copied, word) in copy.iter_mut().zip(first) {
        *copied = word.to_le();
    }
    let bytes: &[u8] = bytemuck::cast_slice(&copy);
    // From the length of the caller's key, which is known before the record is.
    let value_at = HEADER_BYTES + key.len();
    let end = value_at + header.value_len as usize;
    let same_key = bytes[HEADER_BYTES..value_at] == *key;
    let is_valid = !verify || seed.sum_short(&bytes[SUM_BYTES..end]) == first[0] as u32;
    if same_key && is_valid {
        out.extend_from_slice(&bytes[value_at..end]);
    }
    Copied { same_key, is_valid }
}

/// [`copy_value`] of a long record. The value is copied once, to where the caller wants it, and each
/// piece is summed there, while it is in the nearest cache.
#[inline(never)]
fn copy_long_value(
    seed: ChecksumSeed,
    (header, first): (RecordHeader, HeaderWords),
    record: &[Word],
    (key, verify): (&[u8], bool),
    out: &mut Vec<u8>,
) -> Copied {
    if !holds_key(header, record, key) {
        return Copied {
            same_key: false,
            is_valid: copy(seed, header, record, verify, |_, _| {}),
        };
    }
    let start = out.len();
    let mut sum = seed.long();
    if verify {
        sum.update(&bytemuck::cast::<_, [u8; HEADER_BYTES]>(first.map(u64::to_le))[SUM_BYTES..]);
        sum.update(key);
    }
    let value_at = HEADER_BYTES + key.len();
    let end = value_at + header.value_len as usize;
    // The record lies within the segment's file, so the value takes no more than that.
    out.reserve(header.value_len as usize);
    for at in (value_at..end).step_by(CHUNK) {
        let before = out.len();
        mmap::append(record, at, CHUNK.min(end - at), out);
        if verify {
            sum.update(&out[before..]);
        }
    }
    let is_valid = !verify || sum.value() == first[0] as u32;
    if !is_valid {
        out.truncate(start);
    }
    Copied {
        same_key: true,
        is_valid,
    }
}

/// [`copy_value`] of a numbered record, which has no value.
fn copy_numbered(
    seed: ChecksumSeed,
    header: RecordHeader,
    record: &[Word],
    (key, verify): (&[u8], bool),
) -> Copied {
    let mut same_key = true;
    let key_at = header.variant.header_bytes();
    let is_valid = copy(seed, header, record, verify, |at, bytes| {
        let (key_part, _) = split(at, bytes, key_at, key_at + key.len());
        same_key &= key_part.is_empty()
            || key
                .get(at.max(key_at) - key_at..)
                .is_some_and(|rest| rest.starts_with(key_part));
    });
    Copied { same_key, is_valid }
}

/// Splits a piece of a record into the parts that belong to its key and to its value.
#[inline(always)]
pub(super) fn split(at: usize, bytes: &[u8], key_at: usize, value_at: usize) -> (&[u8], &[u8]) {
    debug_assert!(key_at <= value_at, "the value is after the key");
    let key_from = key_at.saturating_sub(at).min(bytes.len());
    let value_from = value_at.saturating_sub(at).min(bytes.len());
    (&bytes[key_from..value_from], &bytes[value_from..])
}

/// [`copy`] of a record that is short by its header.
#[inline(always)]
fn copy_short(
    seed: ChecksumSeed,
    header: RecordHeader,
    record: &[Word],
    verify: bool,
    mut take: impl FnMut(usize, &[u8]),
) -> bool {
    let mut buffer = [0_u8; SHORT_BYTES];
    words::copy_out(record, &mut buffer);
    let bytes = &buffer[..header.content_bytes() as usize];
    if !header.is_of(bytes) {
        return false;
    }
    take(0, bytes);
    !verify || seed.sum_short(&bytes[SUM_BYTES..]) == stored_sum(bytes)
}

/// [`copy`] of a record that is long by its header.
fn copy_long(
    seed: ChecksumSeed,
    header: RecordHeader,
    record: &[Word],
    verify: bool,
    mut take: impl FnMut(usize, &[u8]),
) -> bool {
    let mut buffer = [0_u8; CHUNK];
    let mut sum = seed.long();
    let mut stored = 0;
    let mut left = header.content_bytes() as usize;
    for (piece, words) in record.chunks(CHUNK / 8).enumerate() {
        words::copy_out(words, &mut buffer);
        let bytes = &buffer[..left.min(words.len() * 8)];
        left -= bytes.len();
        let mut skip = 0;
        if piece == 0 {
            if !header.is_of(bytes) {
                return false;
            }
            stored = stored_sum(bytes);
            skip = SUM_BYTES;
        }
        take(piece * CHUNK, bytes);
        if verify {
            sum.update(&bytes[skip..]);
        }
    }
    debug_assert_eq!(left, 0);
    !verify || sum.value() == stored
}

/// Returns whether the bytes of a record, which nothing changes during the call, have a header and the
/// checksum in front of it.
pub(super) fn is_valid_in_place(seed: ChecksumSeed, header: RecordHeader, record: &[u8]) -> bool {
    let Some(bytes) = record.get(..header.content_bytes() as usize) else {
        return false;
    };
    let summed = &bytes[SUM_BYTES..];
    let sum = if record.len() <= SHORT_BYTES {
        seed.sum_short(summed)
    } else {
        let mut sum = seed.long();
        sum.update(summed);
        sum.value()
    };
    header.is_of(bytes) && sum == stored_sum(bytes)
}

fn stored_sum(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Returns whether a record has this key, whose length is the one in the header.
#[inline(always)]
pub(super) fn holds_key(header: RecordHeader, record: &[Word], key: &[u8]) -> bool {
    debug_assert_eq!(usize::from(header.key_len), key.len());
    match header.variant {
        Variant::Versioned | Variant::Expiring => words::equal(&record[HEADER_WORDS..], key),
        Variant::Numbered => {
            // The key begins in the middle of the second word.
            let (first, rest) = key.split_at(key.len().min(4));
            load(&record[1]).to_le_bytes()[4..4 + first.len()] == *first
                && words::equal(&record[2..], rest)
        }
    }
}

/// Writes a record to `words`, which are exactly as many as it takes.
pub(super) fn write(
    seed: ChecksumSeed,
    words: &[Word],
    header: RecordHeader,
    (key, value): (&[u8], &[u8]),
) {
    debug_assert_eq!(words.len() as u64 * 8, header.stored_bytes());
    let mut fixed = [0; HEADER_BYTES];
    for (bytes, word) in fixed.chunks_exact_mut(8).zip(header.to_words()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let fixed = &mut fixed[..header.variant.header_bytes()];
    if words.len() * 8 <= SHORT_BYTES {
        let mut record = [0_u8; SHORT_BYTES];
        let end = fixed.len() + key.len();
        record[..fixed.len()].copy_from_slice(fixed);
        record[fixed.len()..end].copy_from_slice(key);
        record[end..end + value.len()].copy_from_slice(value);
        let sum = seed.sum_short(&record[SUM_BYTES..end + value.len()]);
        record[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
        words::copy_in(words, &[&record[..words.len() * 8]]);
    } else {
        let mut sum = seed.long();
        sum.update(&fixed[SUM_BYTES..]);
        sum.update(key);
        sum.update(value);
        fixed[..SUM_BYTES].copy_from_slice(&sum.value().to_le_bytes());
        words::copy_in(words, &[fixed, key, value]);
    }
}
